#pragma once
// Rows of a report from the cells of a sweep: one row per (dataset, setting).
//
//   value(seed)      = mean over cells (layer, KV head) of the metric
//   mean, std, ...   = over the seeds' values; std is the sample standard deviation, 0 for one seed
//   worst            = the cell whose mean over seeds is worst in the sense of the metric's `better`
//
// A metric that is not a number in a cell for any seed is missing there for every seed, so that all seeds
// average the same cells; a metric missing in every cell is left out of the row.
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/sweep/results.hpp"

namespace rotorquant::evaluation {

struct WorstCell {
  std::int64_t layer = 0;
  std::int64_t kv_head = 0;
  double value = 0.0;  // mean over seeds
};

struct MetricSummary {
  std::string tag;
  double mean = 0.0;
  double std = 0.0;
  double min = 0.0;
  double max = 0.0;
  std::optional<WorstCell> worst;  // none for sums over cells, such as times
  std::int64_t n = 0;              // seeds
  std::int64_t missing_cells = 0;  // cells without this metric, not averaged
};

struct Row {
  std::int64_t dataset = 0;     // index into SweepResult::datasets
  std::int64_t setting = 0;     // index into SweepResult::settings
  double bits_per_value = 0.0;  // stored bits of a key and a value, over their coordinates
  double side_bits_per_value =
      0.0;  // sinks, shifts: stored once a sequence, over all its values; the sum of:
  std::vector<std::pair<std::string, double>> side;  // by name
  std::vector<MetricSummary> metrics;                // in registry order
  // (tag, mean over seeds and KV heads at each of the dataset's layers; NaN where a layer has none) of
  // layer_metrics.
  std::vector<std::pair<std::string, std::vector<double>>> by_layer;
  // time/encode and time/decode: seconds for all cells of one seed. throughput/*: keys and values per second.
  std::vector<MetricSummary> timings;
};

// In order of dataset and setting, with a row wherever there are cells.
std::vector<Row> aggregate(const SweepResult& result);

// Whether `a` is worse than `b`.
bool is_worse(Better better, double a, double b);

}  // namespace rotorquant::evaluation
