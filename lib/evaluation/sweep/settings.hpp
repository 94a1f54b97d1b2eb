#pragma once
// From the quantizers and bit widths of a request to the settings of a sweep.
#include <memory>
#include <vector>

#include "evaluation/sweep/request.hpp"
#include "evaluation/sweep/results.hpp"
#include "rotorquant/quantizers/registry.hpp"

namespace rotorquant::evaluation {

// Quantizers of one setting and seed: seed s for keys, s + 100 for values.
struct QuantizerPair {
  std::shared_ptr<const Quantizer> keys;
  std::shared_ptr<const Quantizer> values;
};

struct SettingList {
  std::vector<Setting>
      settings;  // in the order of the request: quantizers, then bits; sizes for the given dims
  std::vector<Skipped> skipped;  // widths that a quantizer cannot have
};

// Errors: UsageError for what the registry refuses, for lists of keys and values that do not pair up, and
// when nothing is left to do. A specification may fix its own width by `bits=N`, which then replaces the
// sweep's widths. Quantizers without code for `space` are skipped.
SettingList expand_settings(const SweepRequest& request, std::int64_t head_dim, std::int64_t value_dim,
                            Space space);

QuantizerPair build_pair(const Setting& setting, std::uint64_t seed, std::int64_t head_dim,
                         std::int64_t value_dim);

// Whether two settings store the same fields by the same codec and differ in their rotation alone, so that
// isotropic data cannot tell them apart.
bool differ_in_rotation_alone(const Setting& a, const Setting& b);

}  // namespace rotorquant::evaluation
