#include "evaluation/statistics/comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/statistics/comparison_sentence.hpp"
#include "evaluation/statistics/summary.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

// Side data shrink with the sequence and are shown apart; beyond this many bits a value they are no side
// matter. The shift and scales of calibrated keys take .023 at 512 tokens and .12 at 96.
constexpr double side_bits_tolerance = 0.25;

using CellPlace = std::pair<std::int64_t, std::int64_t>;  // layer, KV head

// Of one setting and metric: values [seeds, cells] as measured, NaN where missing.
using ValuesByCell = std::map<CellPlace, std::vector<double>>;

ValuesByCell values_of(const SweepResult& result, std::int64_t dataset, std::int64_t setting,
                       std::size_t metric) {
  ValuesByCell values;
  for (const Cell& cell : result.cells) {
    if (cell.dataset != dataset || cell.setting != setting) continue;
    const auto seed = std::find(result.seeds.begin(), result.seeds.end(), cell.seed);
    if (seed == result.seeds.end())
      throw Error(fmt::format("cell with seed {}, which the sweep does not list", cell.seed));
    std::vector<double>& row = values[{cell.layer, cell.kv_head}];
    row.resize(result.seeds.size(), std::nan(""));
    row[static_cast<std::size_t>(seed - result.seeds.begin())] = cell.metrics[metric];
  }
  return values;
}

bool complete(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

// What both settings measured in the cells they share.
struct PairedLosses {
  std::vector<CellPlace> places;
  LossTable candidate;
  LossTable baseline;
  double candidate_mean = 0.0;  // of the metric itself
  double baseline_mean = 0.0;
};

PairedLosses paired_losses(const ValuesByCell& candidate, const ValuesByCell& baseline, std::size_t seeds,
                           Better better) {
  PairedLosses paired;
  std::vector<const std::vector<double>*> ours;
  std::vector<const std::vector<double>*> theirs;
  for (const auto& [place, values] : candidate) {
    const auto match = baseline.find(place);
    if (match == baseline.end() || !complete(values) || !complete(match->second)) continue;
    paired.places.push_back(place);
    ours.push_back(&values);
    theirs.push_back(&match->second);
  }
  const auto fill = [&](const std::vector<const std::vector<double>*>& cells, LossTable& table,
                        double& mean_value) {
    table.seeds = static_cast<std::int64_t>(seeds);
    table.cells = static_cast<std::int64_t>(cells.size());
    for (std::size_t seed = 0; seed < seeds; ++seed) {
      for (const std::vector<double>* cell : cells) {
        table.losses.push_back(loss(better, (*cell)[seed]));
        mean_value += (*cell)[seed] / static_cast<double>(seeds * cells.size());
      }
    }
  };
  fill(ours, paired.candidate, paired.candidate_mean);
  fill(theirs, paired.baseline, paired.baseline_mean);
  return paired;
}

double cell_mean(const LossTable& table, std::int64_t cell) {
  double sum = 0.0;
  for (std::int64_t seed = 0; seed < table.seeds; ++seed) sum += table.at(seed, cell);
  return sum / static_cast<double>(table.seeds);
}

double seed_mean(const LossTable& table, std::int64_t seed) {
  double sum = 0.0;
  for (std::int64_t cell = 0; cell < table.cells; ++cell) sum += table.at(seed, cell);
  return sum / static_cast<double>(table.cells);
}

bool all_positive(const LossTable& table) {
  return std::all_of(table.losses.begin(), table.losses.end(), [](double value) { return value > 0.0; });
}

// Stored bits of the tensors that a metric depends on: of a vector of each, and per value.
struct StoredBits {
  std::int64_t bits = 0;
  double per_value = 0.0;
};

StoredBits stored_bits(const Setting& setting, const DatasetSummary& dataset, const std::string& metric) {
  const bool values_only = metric.starts_with("value/") || metric == "output/nmse_values_only";
  const bool both = metric == "output/nmse";
  StoredBits stored;
  std::int64_t dims = 0;
  if (!values_only) {
    stored.bits += setting.key_size.bits_per_vector;
    dims += dataset.head_dim;
  }
  if (values_only || both) {
    stored.bits += setting.value_size.bits_per_vector;
    dims += dataset.value_dim;
  }
  stored.per_value = dims > 0 ? static_cast<double>(stored.bits) / static_cast<double>(dims) : 0.0;
  return stored;
}

// Stored once a sequence, over all its values.
double side_bits_per_value(const SweepResult& result, std::int64_t dataset, std::int64_t setting) {
  const DatasetSummary& data = result.datasets.at(static_cast<std::size_t>(dataset));
  std::int64_t bits = 0, cells = 0;
  for (const Cell& cell : result.cells) {
    if (cell.dataset != dataset || cell.setting != setting) continue;
    bits += cell.side_bits();
    ++cells;
  }
  if (cells == 0) return 0.0;
  return static_cast<double>(bits) /
         static_cast<double>(cells * data.num_tokens * (data.head_dim + data.value_dim));
}

bool fitted_on(const SweepResult& result, const DatasetSummary& dataset) {
  return std::any_of(result.fit.begin(), result.fit.end(),
                     [&](const FitSource& source) { return source.sha256 == dataset.sha256; });
}

// -1 when all of the interval is below `neutral`, 1 when above, else 0.
int side_of(const std::optional<Interval>& interval, double neutral) {
  if (!interval) return 0;
  return interval->high < neutral ? -1 : interval->low > neutral ? 1 : 0;
}

void measure_ratio(const PairedLosses& paired, Comparison& comparison) {
  if (!all_positive(paired.candidate) || !all_positive(paired.baseline)) return;
  comparison.ratio = geometric_mean_ratio(paired.candidate, paired.baseline);
  if (paired.candidate.seeds > 1) {
    comparison.ratio_interval = geometric_mean_ratio_interval(paired.candidate, paired.baseline);
  }
  for (std::int64_t cell = 0; cell < paired.candidate.cells; ++cell) {
    const double ratio = cell_mean(paired.candidate, cell) / cell_mean(paired.baseline, cell);
    if (comparison.worst_ratio && ratio <= *comparison.worst_ratio) continue;
    comparison.worst_ratio = ratio;
    std::tie(comparison.worst_layer, comparison.worst_kv_head) =
        paired.places[static_cast<std::size_t>(cell)];
  }
}

// Differences as a reader of the metric expects them: of the metric itself, not of the loss, where higher
// is better.
void measure_differences(const PairedLosses& paired, Better better, Comparison& comparison) {
  const double sign = better == Better::higher ? -1.0 : 1.0;
  for (std::int64_t seed = 0; seed < paired.candidate.seeds; ++seed) {
    comparison.seed_differences.push_back(
        sign * (seed_mean(paired.candidate, seed) - seed_mean(paired.baseline, seed)));
  }
  comparison.difference = mean(comparison.seed_differences);
  if (paired.candidate.seeds > 1) comparison.difference_interval = mean_interval(comparison.seed_differences);
}

SentenceFacts count_wins(const PairedLosses& paired, Comparison& comparison) {
  SentenceFacts facts;
  std::int64_t seed_wins = 0;
  for (std::int64_t cell = 0; cell < paired.candidate.cells; ++cell) {
    const double ours = cell_mean(paired.candidate, cell);
    const double theirs = cell_mean(paired.baseline, cell);
    facts.candidate_wins += ours < theirs ? 1 : 0;
    facts.baseline_wins += theirs < ours ? 1 : 0;
    for (std::int64_t seed = 0; seed < paired.candidate.seeds; ++seed) {
      seed_wins += paired.candidate.at(seed, cell) < paired.baseline.at(seed, cell) ? 1 : 0;
    }
  }
  comparison.num_cells = paired.candidate.cells;
  comparison.num_seeds = paired.candidate.seeds;
  comparison.cell_win_rate =
      static_cast<double>(facts.candidate_wins) / static_cast<double>(comparison.num_cells);
  comparison.seed_cell_win_rate =
      static_cast<double>(seed_wins) / static_cast<double>(comparison.num_cells * comparison.num_seeds);
  return facts;
}

Verdict decide(const Comparison& comparison, Better better, bool& summaries_disagree) {
  const int by_difference =
      side_of(comparison.difference_interval, 0.0) * (better == Better::higher ? -1 : 1);
  const int by_ratio = side_of(comparison.ratio_interval, 1.0);
  summaries_disagree = by_ratio * by_difference < 0;
  const int side = comparison.ratio ? by_ratio : by_difference;
  if (side == 0 || summaries_disagree) return Verdict::no_significant_difference;
  return side < 0 ? Verdict::candidate_better : Verdict::baseline_better;
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::candidate_better:
      return "candidate_better";
    case Verdict::baseline_better:
      return "baseline_better";
    case Verdict::no_significant_difference:
      return "no_significant_difference";
    case Verdict::no_ranking:
      return "no_ranking";
  }
  return "";
}

std::optional<Comparison> compare(const SweepResult& result, const ComparisonRequest& request) {
  const std::size_t metric = metric_index(request.metric);
  const Better better = metric_registry()[metric].better;
  const DatasetSummary& dataset = result.datasets.at(static_cast<std::size_t>(request.dataset));
  const Setting& candidate = result.settings.at(static_cast<std::size_t>(request.candidate));
  const Setting& baseline = result.settings.at(static_cast<std::size_t>(request.baseline));
  const PairedLosses paired = paired_losses(values_of(result, request.dataset, request.candidate, metric),
                                            values_of(result, request.dataset, request.baseline, metric),
                                            result.seeds.size(), better);
  if (paired.places.empty()) return std::nullopt;

  Comparison comparison;
  comparison.dataset = request.dataset;
  comparison.candidate = candidate.label;
  comparison.baseline = baseline.label;
  comparison.bits = candidate.bits;
  comparison.metric = request.metric;
  comparison.candidate_mean = paired.candidate_mean;
  comparison.baseline_mean = paired.baseline_mean;
  measure_differences(paired, better, comparison);
  measure_ratio(paired, comparison);
  SentenceFacts facts = count_wins(paired, comparison);
  facts.better = better;

  const StoredBits candidate_bits = stored_bits(candidate, dataset, request.metric);
  const StoredBits baseline_bits = stored_bits(baseline, dataset, request.metric);
  comparison.candidate_bits_per_value = candidate_bits.per_value;
  comparison.baseline_bits_per_value = baseline_bits.per_value;
  comparison.candidate_side_bits_per_value = side_bits_per_value(result, request.dataset, request.candidate);
  comparison.baseline_side_bits_per_value = side_bits_per_value(result, request.dataset, request.baseline);
  if (dataset.isotropic && request.same_codec) {
    comparison.gate = "isotropic";
  } else if ((candidate.calibrated || baseline.calibrated) && fitted_on(result, dataset)) {
    comparison.gate = "fitted on this dump";
  } else if (comparison.num_seeds == 1) {
    comparison.gate = "single seed";
  } else if (candidate_bits.bits != baseline_bits.bits) {
    comparison.gate = "unequal bits";
  } else if (std::abs(comparison.candidate_side_bits_per_value - comparison.baseline_side_bits_per_value) >
             side_bits_tolerance) {
    comparison.gate = "unequal side data";
  } else {
    comparison.verdict = decide(comparison, better, facts.summaries_disagree);
  }
  comparison.sentence = comparison_sentence(comparison, facts);
  return comparison;
}

}  // namespace rotorquant::evaluation
