#include "evaluation/metrics/metric_registry.hpp"

#include <fmt/format.h>

#include <cmath>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

MetricInfo kl_of_eighth(int eighth) {
  return {fmt::format("attention/kl_eighth{}", eighth), Better::lower, "nats",
          fmt::format("attention/kl of causal rows in eighth {} of the sequence", eighth), true};
}

}  // namespace

const std::vector<MetricInfo>& metric_registry() {
  static const std::vector<MetricInfo> registry = {
      {"key/mse", Better::lower, "key²", "mean over keys of ‖k - k̂‖² (D_mse for unit vectors)", false},
      {"key/nmse", Better::lower, "1", "Σ‖k - k̂‖² / Σ‖k‖²", false},
      {"key/cosine", Better::higher, "1", "mean cosine between a key and its reconstruction", false},
      {"value/mse", Better::lower, "value²", "mean over values of ‖v - v̂‖²", false},
      {"value/nmse", Better::lower, "1", "Σ‖v - v̂‖² / Σ‖v‖²", false},
      {"value/cosine", Better::higher, "1", "mean cosine between a value and its reconstruction", false},
      {"ip/bias", Better::zero, "query·key", "mean of ⟨q,k̂⟩ - ⟨q,k⟩ over visible pairs", true},
      {"ip/slope", Better::one, "1",
       "least-squares slope, with intercept, of ⟨q,k̂⟩ on ⟨q,k⟩ (1 = no shrinkage)", true},
      {"ip/rmse", Better::lower, "query·key", "root mean square of ⟨q,k̂⟩ - ⟨q,k⟩ over visible pairs", true},
      {"ip/correlation", Better::higher, "1", "correlation of ⟨q,k̂⟩ with ⟨q,k⟩ over visible pairs", true},
      {"score/rmse", Better::lower, "1", "root mean square error of softmax_scale·⟨q,k⟩", true},
      {"attention/kl", Better::lower, "nats", "mean KL(p‖p̂) of the attention rows", true},
      {"attention/top1", Better::higher, "1", "share of rows whose strongest key stays the strongest", true},
      {"attention/top8", Better::higher, "1",
       "mean share of a row's 8 strongest keys that stay among the 8 strongest", true},
      {"output/nmse", Better::lower, "1", "Σ‖p̂·v̂ - p·v‖² / Σ‖p·v‖²", true},
      {"output/nmse_keys_only", Better::lower, "1", "the same with exact values: p̂·v against p·v", true},
      {"output/nmse_values_only", Better::lower, "1", "the same with exact attention: p·v̂ against p·v", true},
      kl_of_eighth(1),
      kl_of_eighth(2),
      kl_of_eighth(3),
      kl_of_eighth(4),
      kl_of_eighth(5),
      kl_of_eighth(6),
      kl_of_eighth(7),
      kl_of_eighth(8),
  };
  return registry;
}

double loss(Better better, double value) {
  switch (better) {
    case Better::lower:
      return value;
    case Better::higher:
      return 1.0 - value;
    case Better::zero:
      return std::abs(value);
    case Better::one:
      return std::abs(value - 1.0);
  }
  return value;
}

std::size_t metric_index(const std::string& tag) {
  std::vector<std::string> tags;
  for (const MetricInfo& metric : metric_registry()) {
    if (metric.tag == tag) return tags.size();
    tags.push_back(metric.tag);
  }
  throw UsageError(
      fmt::format("unknown metric '{}'{}; valid: {}", tag, nearest_hint(tag, tags), fmt::join(tags, ", ")));
}

}  // namespace rotorquant::evaluation
