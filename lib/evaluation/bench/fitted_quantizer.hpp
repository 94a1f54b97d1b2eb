#pragma once
// Quantizers that are fitted to data, for the benchmark: by transforms that `rotorquant calibrate` wrote, or
// else by a fit to the benchmark's own vectors as keys without RoPE. Their speed depends on the fit in its
// bit widths alone.
#include <memory>
#include <string>

#include "evaluation/bench/operation.hpp"
#include "evaluation/calibration/fit.hpp"
#include "rotorquant/core/view.hpp"
#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant::evaluation {

// Whether a quantizer's text names one that is fitted.
bool is_fitted(const std::string& text);

// Where the transforms come from: a file, or, where `path` is empty, a fit with these settings (but for their
// bits) to the vectors at hand.
struct BenchTransforms {
  std::string path;
  FitSettings fit;
};

// keys and queries [n, shape.dim], for a fit.
std::shared_ptr<const TransformSet> bench_transforms(const BenchTransforms& from, const BenchShape& shape,
                                                     HostView<const float> keys,
                                                     HostView<const float> queries);

// The quantizer of the set's first head, adapted to a sequence that begins with `keys`. Errors: UsageError
// for unknown parameters; a set of another dimension or width.
std::shared_ptr<const Quantizer> fitted_quantizer(const std::string& text, const BenchShape& shape,
                                                  const std::shared_ptr<const TransformSet>& transforms,
                                                  HostView<const float> keys);

}  // namespace rotorquant::evaluation
