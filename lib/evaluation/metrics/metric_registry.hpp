#pragma once
// The metrics of a cell: their tags as reports show them, their order, and which way is better.
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

// In report order: key/mse key/nmse key/cosine value/mse value/nmse value/cosine ip/bias ip/slope ip/rmse ip/correlation
// score/rmse attention/kl attention/top1 attention/top8 output/nmse output/nmse_keys_only output/nmse_values_only.
const std::vector<MetricInfo>& metric_registry();

// Position of `tag`; an unknown tag is a UsageError that names the nearest known one.
std::size_t metric_index(const std::string& tag);

}  // namespace rotorquant::evaluation
