#pragma once
// From the quantizers and bit widths of a request to the settings of a sweep.
#include <memory>
#include <string>
#include <vector>

#include "evaluation/calibration/fit.hpp"
#include "evaluation/dump/dump.hpp"
#include "evaluation/sweep/request.hpp"
#include "evaluation/sweep/results.hpp"
#include "evaluation/sweep/tensor_method.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

// What the settings are made for.
struct SettingContext {
  std::int64_t head_dim = 0;
  std::int64_t value_dim = 0;
  Space space = Space::cpu;
  std::shared_ptr<const TransformSet> transforms;  // null without
  std::string transforms_path;                     // the file they are from, for errors
  std::int64_t num_layers = 0;                     // of the model
  int gpu = 0;                                     // with Space::cuda
};

// The methods of one setting and seed: seed s for keys, s + 100 for values.
struct MethodPair {
  TensorMethod keys;
  TensorMethod values;
};

struct SettingList {
  std::vector<Setting>
      settings;  // in the order of the request: quantizers, then bits; sizes for the given dims
  std::vector<Skipped>
      skipped;  // widths that a quantizer cannot have, and quantizers without code for the device
};

// The labels of the request's quantizers, whatever their widths.
std::vector<std::string> setting_labels(const SweepRequest& request);

// Errors: UsageError for what the registry refuses, for lists of keys and values that do not pair up, and
// when nothing is left to do.
SettingList expand_settings(const SweepRequest& request, const SettingContext& context);

// The rotary embedding that a calibrated setting needs to code the keys of this dump. Errors: a dump without
// one, and transforms of another model or without a fit for one of these layers, heads or the setting's
// width.
std::shared_ptr<const Rope> rope_for_calibrated(const Setting& setting, const SettingContext& context,
                                                const Dump& dump, const std::vector<std::int64_t>& layers,
                                                const std::vector<std::int64_t>& heads);

// Whether keys or values have a width of their own in the model's first and last layers.
bool has_edge_layers(const Setting& setting);

MethodPair build_methods(const Setting& setting, std::uint64_t seed, const SettingContext& context);

// Whether two settings store the same fields by the same codec and differ in their rotation alone, so that
// isotropic data cannot tell them apart.
bool differ_in_rotation_alone(const Setting& a, const Setting& b);

}  // namespace rotorquant::evaluation
