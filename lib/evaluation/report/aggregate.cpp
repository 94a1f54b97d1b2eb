#include "evaluation/report/aggregate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <utility>

#include "evaluation/statistics/summary.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

// The cells of one row as a matrix of seeds by places, a place being a (layer, KV head).
struct RowCells {
  std::vector<std::pair<std::int64_t, std::int64_t>> places;  // ascending
  std::vector<std::vector<const Cell*>> by_seed;              // [seeds][places]
};

RowCells arrange(std::span<const Cell> cells) {
  std::map<std::uint64_t, std::map<std::pair<std::int64_t, std::int64_t>, const Cell*>> seeds;
  for (const Cell& cell : cells) seeds[cell.seed][{cell.layer, cell.kv_head}] = &cell;
  RowCells arranged;
  for (const auto& [place, cell] : seeds.begin()->second) arranged.places.push_back(place);
  for (const auto& [seed, by_place] : seeds) {
    std::vector<const Cell*>& line = arranged.by_seed.emplace_back();
    for (const auto& [place, cell] : by_place) line.push_back(cell);
    const bool same =
        std::equal(arranged.places.begin(), arranged.places.end(), by_place.begin(), by_place.end(),
                   [](const auto& place, const auto& entry) { return place == entry.first; });
    if (!same) {
      throw Error(fmt::format(
          "sweep result: seed {} of dataset {}, setting {} covers other (layer, head) cells than seed {}",
          seed, cells.front().dataset, cells.front().setting, seeds.begin()->first));
    }
  }
  return arranged;
}

// Mean, spread and extremes of one value per seed.
MetricSummary summarize_seeds(std::string tag, const std::vector<double>& values) {
  MetricSummary summary;
  summary.tag = std::move(tag);
  summary.n = static_cast<std::int64_t>(values.size());
  summary.min = *std::min_element(values.begin(), values.end());
  summary.max = *std::max_element(values.begin(), values.end());
  summary.mean = mean(values);
  summary.std = standard_deviation(values);
  return summary;
}

std::optional<MetricSummary> summarize_metric(const MetricInfo& info, std::size_t metric,
                                              const RowCells& cells) {
  const std::size_t seeds = cells.by_seed.size();
  std::vector<double> seed_sums(seeds, 0.0);
  std::optional<WorstCell> worst;
  std::int64_t present = 0;
  for (std::size_t place = 0; place < cells.places.size(); ++place) {
    double place_sum = 0.0;
    for (const auto& line : cells.by_seed) place_sum += line[place]->metrics[metric];
    if (!std::isfinite(place_sum)) continue;
    ++present;
    for (std::size_t s = 0; s < seeds; ++s) seed_sums[s] += cells.by_seed[s][place]->metrics[metric];
    const double place_mean = place_sum / static_cast<double>(seeds);
    if (!worst || is_worse(info.better, place_mean, worst->value)) {
      worst = WorstCell{cells.places[place].first, cells.places[place].second, place_mean};
    }
  }
  if (present == 0) return std::nullopt;
  for (double& sum : seed_sums) sum /= static_cast<double>(present);
  MetricSummary summary = summarize_seeds(info.tag, seed_sums);
  summary.worst = worst;
  summary.missing_cells = static_cast<std::int64_t>(cells.places.size()) - present;
  return summary;
}

// Metrics that a row also tells layer by layer.
constexpr Metric layer_metrics[] = {Metric::key_nmse, Metric::value_nmse, Metric::attention_kl,
                                    Metric::output_nmse};

// Means over seeds and KV heads for each of `layers`.
std::vector<double> means_by_layer(Metric metric, const RowCells& cells,
                                   const std::vector<std::int64_t>& layers) {
  std::vector<double> means;
  for (const std::int64_t layer : layers) {
    double sum = 0.0;
    double count = 0.0;
    for (std::size_t place = 0; place < cells.places.size(); ++place) {
      if (cells.places[place].first != layer) continue;
      double place_sum = 0.0;
      for (const auto& line : cells.by_seed)
        place_sum += line[place]->metrics[static_cast<std::size_t>(metric)];
      if (!std::isfinite(place_sum)) continue;
      sum += place_sum / static_cast<double>(cells.by_seed.size());
      count += 1.0;
    }
    means.push_back(sum / count);
  }
  return means;
}

void append_timings(const RowCells& cells, std::int64_t vectors_per_cell,
                    std::vector<MetricSummary>& timings) {
  const auto seconds_of_seeds = [&](double Cell::*member) {
    std::vector<double> totals;
    for (const auto& line : cells.by_seed) {
      double total = 0.0;
      for (const Cell* cell : line) total += cell->*member;
      totals.push_back(total);
    }
    return totals;
  };
  const double vectors = static_cast<double>(vectors_per_cell) * static_cast<double>(cells.places.size());
  const std::pair<const char*, double Cell::*> operations[] = {{"encode", &Cell::encode_seconds},
                                                               {"decode", &Cell::decode_seconds}};
  for (const auto& [name, member] : operations) {
    timings.push_back(summarize_seeds(fmt::format("time/{}", name), seconds_of_seeds(member)));
  }
  for (const auto& [name, member] : operations) {
    std::vector<double> rates = seconds_of_seeds(member);
    // A clock too coarse for the work measures nothing, and a rate of infinity is not a number JSON knows.
    if (std::any_of(rates.begin(), rates.end(), [](double seconds) { return !(seconds > 0.0); })) continue;
    for (double& rate : rates) rate = vectors / rate;
    timings.push_back(summarize_seeds(fmt::format("throughput/{}", name), rates));
  }
}

// What theory expects of the setting's keys: numbers without a spread or a worst place.
void append_theory(const Setting& setting, std::vector<MetricSummary>& metrics) {
  const std::pair<const char*, std::optional<double>> expectations[] = {
      {"theory/nmse", setting.isotropic_nmse}, {"theory/nmse_bound", setting.nmse_bound}};
  for (const auto& [tag, value] : expectations) {
    if (value) metrics.push_back(summarize_seeds(tag, {*value}));
  }
}

double mean_bits_per_value(const Setting& setting, const DatasetSummary& dataset) {
  const double bits =
      static_cast<double>(setting.key_size.bits_per_vector + setting.value_size.bits_per_vector);
  return bits / static_cast<double>(dataset.head_dim + dataset.value_dim);
}

}  // namespace

bool is_worse(Better better, double a, double b) {
  switch (better) {
    case Better::lower:
      return a > b;
    case Better::higher:
      return a < b;
    case Better::zero:
      return std::abs(a) > std::abs(b);
    case Better::one:
      return std::abs(a - 1.0) > std::abs(b - 1.0);
  }
  return false;
}

std::vector<Row> aggregate(const SweepResult& result) {
  std::vector<Row> rows;
  for (std::size_t begin = 0, end = 0; begin < result.cells.size(); begin = end) {
    const Cell& first = result.cells[begin];
    while (end < result.cells.size() && result.cells[end].dataset == first.dataset &&
           result.cells[end].setting == first.setting) {
      ++end;
    }
    const DatasetSummary& dataset = result.datasets.at(static_cast<std::size_t>(first.dataset));
    const Setting& setting = result.settings.at(static_cast<std::size_t>(first.setting));
    const RowCells cells = arrange(std::span(result.cells).subspan(begin, end - begin));
    Row& row = rows.emplace_back();
    row.dataset = first.dataset;
    row.setting = first.setting;
    row.bits_per_value = mean_bits_per_value(setting, dataset);
    BitsByField side;
    for (std::size_t i = begin; i < end; ++i) {
      for (const auto& [name, bits] : result.cells[i].side) add_bits(side, name, bits);
    }
    const double values = static_cast<double>(end - begin) *
                          static_cast<double>(dataset.num_tokens * (dataset.head_dim + dataset.value_dim));
    for (const auto& [name, bits] : side) {
      row.side.emplace_back(name, static_cast<double>(bits) / values);
      row.side_bits_per_value += row.side.back().second;
    }
    const std::vector<MetricInfo>& registry = metric_registry();
    for (std::size_t metric = 0; metric < registry.size(); ++metric) {
      if (auto summary = summarize_metric(registry[metric], metric, cells)) row.metrics.push_back(*summary);
    }
    for (const Metric metric : layer_metrics) {
      std::vector<double> means = means_by_layer(metric, cells, dataset.layers);
      if (std::none_of(means.begin(), means.end(), [](double mean) { return std::isfinite(mean); })) continue;
      row.by_layer.emplace_back(registry[static_cast<std::size_t>(metric)].tag, std::move(means));
    }
    append_theory(setting, row.metrics);
    append_timings(cells, 2 * dataset.num_tokens, row.timings);
  }
  return rows;
}

}  // namespace rotorquant::evaluation
