#include "evaluation/bench/fitted_quantizer.hpp"

#include <fmt/format.h>

#include <numeric>
#include <vector>

#include "evaluation/calibration/transforms_file.hpp"
#include "evaluation/sweep/tensor_method.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {

bool is_fitted(const std::string& text) {
  return find_calibrated(QuantizerSpec::parse(text).name) != nullptr;
}

std::shared_ptr<const TransformSet> bench_transforms(const BenchTransforms& from, const BenchShape& shape,
                                                     HostView<const float> keys,
                                                     HostView<const float> queries) {
  if (const std::string& path = from.path; !path.empty()) {
    auto set = std::make_shared<TransformSet>(read_transforms(path));
    if (set->head_dim != shape.dim) {
      throw Error(fmt::format("{}: transforms of head dimension {}; valid: --dims {}", path, set->head_dim,
                              set->head_dim));
    }
    return set;
  }
  std::vector<std::int64_t> positions(static_cast<std::size_t>(keys.rows));
  std::iota(positions.begin(), positions.end(), std::int64_t{0});
  // Query i is the newest token's when all keys but the last of the queries behind it are there.
  std::vector<std::int64_t> query_tokens(static_cast<std::size_t>(queries.rows));
  std::iota(query_tokens.begin(), query_tokens.end(), keys.rows - queries.rows);
  CalibrationInput input;
  input.sequences.push_back({keys, {queries}, positions, query_tokens});
  CalibrationModel model;
  model.head_dim = shape.dim;
  FitSettings settings = from.fit;
  settings.bits = {shape.bits};
  return std::make_shared<TransformSet>(fit_transforms({shape.threads}, {&input, 1}, model, settings));
}

std::shared_ptr<const Quantizer> fitted_quantizer(const std::string& text, const BenchShape& shape,
                                                  const std::shared_ptr<const TransformSet>& transforms,
                                                  HostView<const float> keys) {
  TensorContext context;
  context.dim = shape.dim;
  context.transforms = transforms;
  const TensorMethod method(parse_tensor_spec(text, shape.bits, 0), context);
  const HeadFit& head = transforms->heads.front();
  return method.at(head.layer, head.kv_head)->open(keys, 0).quantizer;
}

}  // namespace rotorquant::evaluation
