#pragma once
// The metrics of a cell: their tags as reports show them, their order, and which way is better.
#include <cstddef>
#include <string>
#include <vector>

namespace rotorquant::evaluation {

enum class Better {
  lower,
  higher,
  zero,  // nearest to 0
  one,   // nearest to 1
};

struct MetricInfo {
  std::string tag;
  Better better;
  std::string unit;         // "1", "nats", ...
  std::string description;  // one line, for `list`
  bool needs_queries;
};

// Positions in the registry and in Cell::metrics.
enum class Metric : std::size_t {
  key_mse,
  key_nmse,
  key_cosine,
  value_mse,
  value_nmse,
  value_cosine,
  ip_bias,
  ip_slope,
  ip_rmse,
  ip_correlation,
  score_rmse,
  attention_kl,
  attention_top1,
  attention_top8,
  output_nmse,
  output_nmse_keys_only,
  output_nmse_values_only,
  attention_kl_eighth1,  // and the other seven in order
  count = attention_kl_eighth1 + 8,
};

// Parts of a sequence for attention/kl_eighth1 to 8: causal rows by the number of keys that they see.
inline constexpr std::size_t num_position_bins = 8;

// In report order, that of Metric.
const std::vector<MetricInfo>& metric_registry();

// How far a value is from the best one; for metrics of which more is better, 1 is the best.
double loss(Better better, double value);

// Position of `tag`; an unknown tag is a UsageError that names the nearest known one.
std::size_t metric_index(const std::string& tag);

}  // namespace rotorquant::evaluation
