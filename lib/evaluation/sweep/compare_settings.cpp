#include "evaluation/sweep/compare_settings.hpp"

#include "evaluation/statistics/comparison.hpp"
#include "evaluation/sweep/settings.hpp"

namespace rotorquant::evaluation {
namespace {

using nlohmann::ordered_json;

ordered_json interval_json(const std::optional<Interval>& interval) {
  if (!interval) return nullptr;
  return ordered_json::array({interval->low, interval->high});
}

ordered_json optional_json(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json to_json(const Comparison& comparison) {
  ordered_json out;
  out["dataset"] = comparison.dataset;
  out["candidate"] = comparison.candidate;
  out["baseline"] = comparison.baseline;
  out["bits"] = comparison.bits;
  out["metric"] = comparison.metric;
  out["candidate_mean"] = comparison.candidate_mean;
  out["baseline_mean"] = comparison.baseline_mean;
  out["difference"] = comparison.difference;
  out["difference_interval"] = interval_json(comparison.difference_interval);
  out["ratio"] = optional_json(comparison.ratio);
  out["ratio_interval"] = interval_json(comparison.ratio_interval);
  if (comparison.worst_ratio) {
    out["worst"] = {{"ratio", *comparison.worst_ratio},
                    {"layer", comparison.worst_layer},
                    {"head", comparison.worst_kv_head}};
  } else {
    out["worst"] = nullptr;
  }
  out["cell_win_rate"] = comparison.cell_win_rate;
  out["seed_cell_win_rate"] = comparison.seed_cell_win_rate;
  out["num_cells"] = comparison.num_cells;
  out["num_seeds"] = comparison.num_seeds;
  out["candidate_bits_per_value"] = comparison.candidate_bits_per_value;
  out["baseline_bits_per_value"] = comparison.baseline_bits_per_value;
  out["candidate_side_bits_per_value"] = comparison.candidate_side_bits_per_value;
  out["baseline_side_bits_per_value"] = comparison.baseline_side_bits_per_value;
  out["verdict"] = verdict_name(comparison.verdict);
  out["gate"] = comparison.gate;
  out["sentence"] = comparison.sentence;
  return out;
}

}  // namespace

const std::vector<std::string>& verdict_metrics() {
  static const std::vector<std::string> metrics = {"attention/kl", "output/nmse", "ip/rmse", "key/nmse",
                                                   "value/nmse"};
  return metrics;
}

nlohmann::ordered_json compare_settings(const SweepResult& result, const std::string& baseline) {
  ordered_json comparisons = ordered_json::array();
  for (std::size_t dataset = 0; dataset < result.datasets.size(); ++dataset) {
    for (std::size_t b = 0; b < result.settings.size(); ++b) {
      if (result.settings[b].label != baseline) continue;
      for (std::size_t c = 0; c < result.settings.size(); ++c) {
        if (c == b || result.settings[c].bits != result.settings[b].bits) continue;
        for (const std::string& metric : verdict_metrics()) {
          const ComparisonRequest request{static_cast<std::int64_t>(dataset), static_cast<std::int64_t>(c),
                                          static_cast<std::int64_t>(b), metric,
                                          differ_in_rotation_alone(result.settings[c], result.settings[b])};
          if (const std::optional<Comparison> comparison = compare(result, request)) {
            comparisons.push_back(to_json(*comparison));
          }
        }
      }
    }
  }
  return comparisons;
}

}  // namespace rotorquant::evaluation
