#include "evaluation/sweep/compare_settings.hpp"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "evaluation/report/aggregate.hpp"
#include "evaluation/statistics/comparison.hpp"
#include "evaluation/statistics/rate_curve.hpp"
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

// Sizes nearer than this are taken as equal: side data of a sequence differ by less from method to method.
constexpr double same_bits = 0.01;  // bits a value

// A comparison of a candidate with the baseline's curve at the candidate's own size.
struct EqualBits {
  double bits_per_value;  // stored, side data included
  double baseline_mean;   // interpolated
  double ratio;
};

ordered_json to_json(const Comparison& comparison, const std::optional<EqualBits>& equal) {
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
  if (equal) {
    out["at_equal_bits"] = {{"bits_per_value", equal->bits_per_value},
                            {"baseline_mean", equal->baseline_mean},
                            {"ratio", equal->ratio}};
  } else {
    out["at_equal_bits"] = nullptr;
  }
  out["verdict"] = verdict_name(comparison.verdict);
  out["gate"] = comparison.gate;
  out["sentence"] = equal ? fmt::format(
                                "{}; at equal stored bits, {:.4g} a value with side data, its {} is {:.3g}x "
                                "that of {} between its widths",
                                comparison.sentence, equal->bits_per_value, comparison.metric, equal->ratio,
                                comparison.baseline)
                          : comparison.sentence;
  return out;
}

// Everything stored for a value of this setting.
double stored_bits(const std::vector<Row>& rows, std::int64_t dataset, std::int64_t setting) {
  for (const Row& row : rows) {
    if (row.dataset == dataset && row.setting == setting) return row.bits_per_value + row.side_bits_per_value;
  }
  return 0.0;
}

// What the baseline loses by one metric at every width of its own.
std::vector<RatePoint> baseline_curve(const SweepResult& result, const std::vector<Row>& rows,
                                      std::int64_t dataset, const std::string& baseline,
                                      const std::string& metric) {
  std::vector<RatePoint> points;
  for (const Row& row : rows) {
    if (row.dataset != dataset) continue;
    if (result.settings[static_cast<std::size_t>(row.setting)].label != baseline) continue;
    for (const MetricSummary& summary : row.metrics) {
      if (summary.tag == metric)
        points.push_back({row.bits_per_value + row.side_bits_per_value, summary.mean});
    }
  }
  return points;
}

// Only where sizes differ: at equal ones the comparison itself says it.
std::optional<EqualBits> at_equal_bits(const Comparison& comparison, const SweepResult& result,
                                       const std::vector<Row>& rows, const ComparisonRequest& request) {
  const double bits = stored_bits(rows, request.dataset, request.candidate);
  if (std::abs(bits - stored_bits(rows, request.dataset, request.baseline)) < same_bits) return std::nullopt;
  const std::optional<double> baseline =
      loss_at(baseline_curve(result, rows, request.dataset, comparison.baseline, comparison.metric), bits);
  if (!baseline || !(*baseline > 0.0)) return std::nullopt;
  return EqualBits{bits, *baseline, comparison.candidate_mean / *baseline};
}

}  // namespace

const std::vector<std::string>& verdict_metrics() {
  static const std::vector<std::string> metrics = {"attention/kl", "output/nmse", "ip/rmse", "key/nmse",
                                                   "value/nmse"};
  return metrics;
}

nlohmann::ordered_json compare_settings(const SweepResult& result, const std::string& baseline,
                                        const Context& context) {
  if (baseline.empty()) return ordered_json::array();
  std::vector<ComparisonRequest> requests;
  for (std::size_t dataset = 0; dataset < result.datasets.size(); ++dataset) {
    for (std::size_t b = 0; b < result.settings.size(); ++b) {
      if (result.settings[b].label != baseline) continue;
      for (std::size_t c = 0; c < result.settings.size(); ++c) {
        if (c == b || result.settings[c].bits != result.settings[b].bits) continue;
        for (const std::string& metric : verdict_metrics()) {
          requests.push_back({static_cast<std::int64_t>(dataset), static_cast<std::int64_t>(c),
                              static_cast<std::int64_t>(b), metric,
                              differ_in_rotation_alone(result.settings[c], result.settings[b])});
        }
      }
    }
  }
  const std::vector<Row> rows = aggregate(result);
  std::vector<ordered_json> found(requests.size());
  parallel_for(context, static_cast<std::int64_t>(requests.size()), [&](std::int64_t i) {
    const ComparisonRequest& request = requests[static_cast<std::size_t>(i)];
    if (const std::optional<Comparison> comparison = compare(result, request)) {
      found[static_cast<std::size_t>(i)] =
          to_json(*comparison, at_equal_bits(*comparison, result, rows, request));
    }
  });
  ordered_json comparisons = ordered_json::array();
  for (ordered_json& comparison : found) {
    if (!comparison.is_null()) comparisons.push_back(std::move(comparison));
  }
  return comparisons;
}

}  // namespace rotorquant::evaluation
