#pragma once
// Whether one setting is better than another on one dataset, by one metric, and how sure that is.
//
// Seeds are paired: value(seed) = mean over (layer, KV head) cells of the metric, and the difference of a
// seed is candidate - baseline; for metrics that are best at 0 or 1 the value of a cell is its distance
// from there. Ratios are geometric means over cells of candidate / baseline, each averaged over seeds, of a
// loss: the metric itself, 1 - metric where higher is better, the distance from the best value otherwise.
// Below 1 the candidate is better. Cells where either setting lacks the metric for some seed are left out.
// Intervals are 95% intervals over seeds (bootstrap.hpp): they say how far the random rotations matter, not
// what other data would show.
//
// A setting is better when the ratio's interval excludes 1 and the interval of the mean difference does not
// say the opposite; where a loss is 0 and ratios do not exist, when the interval of the mean difference
// excludes 0.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/statistics/bootstrap.hpp"
#include "evaluation/sweep/results.hpp"

namespace rotorquant::evaluation {

enum class Verdict { candidate_better, baseline_better, no_significant_difference, no_ranking };

// "candidate_better", ...: the names that reports use.
const char* verdict_name(Verdict verdict);

struct ComparisonRequest {
  std::int64_t dataset = 0;    // indices into the sweep's datasets
  std::int64_t candidate = 0;  // and settings
  std::int64_t baseline = 0;
  std::string metric;       // a tag of metric_registry()
  bool same_codec = false;  // the two differ in their rotation alone
};

struct Comparison {
  std::int64_t dataset = 0;
  std::string candidate;  // labels
  std::string baseline;
  int bits = 0;  // of the candidate
  std::string metric;
  double candidate_mean = 0.0;  // over seeds and cells, of the metric itself
  double baseline_mean = 0.0;
  std::vector<double> seed_differences;         // [seeds], in the sweep's order
  double difference = 0.0;                      // their mean
  std::optional<Interval> difference_interval;  // none for a single seed
  std::optional<double> ratio;                  // none when a loss is not positive
  std::optional<Interval> ratio_interval;       // none for a single seed either
  std::optional<double> worst_ratio;            // the cell least favourable to the candidate
  std::int64_t worst_layer = 0;
  std::int64_t worst_kv_head = 0;
  double cell_win_rate =
      0.0;  // share of (layer, KV head) cells, averaged over seeds, where the candidate is better
  double seed_cell_win_rate = 0.0;  // the same over single seeds; ties are no wins
  std::int64_t num_cells = 0;
  std::int64_t num_seeds = 0;
  double candidate_bits_per_value = 0.0;  // stored, of the tensors that the metric depends on
  double baseline_bits_per_value = 0.0;
  double candidate_side_bits_per_value = 0.0;  // sinks, shifts; of keys and values together
  double baseline_side_bits_per_value = 0.0;
  Verdict verdict = Verdict::no_ranking;
  std::string
      gate;  // why there is no ranking, "" when there is one: "isotropic", "fitted on this dump", "single
             // seed", "unequal bits", "unequal side data"
  std::string sentence;  // the verdict in words, with its numbers
};

// Nothing when no cell has the metric for both.
std::optional<Comparison> compare(const SweepResult& result, const ComparisonRequest& request);

}  // namespace rotorquant::evaluation
