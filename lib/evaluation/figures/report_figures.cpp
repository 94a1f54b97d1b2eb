#include "evaluation/figures/report_figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "evaluation/figures/rotation_ladder.hpp"
#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/report/table_rows.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

// What a figure shows of a dump.
struct Shown {
  std::string tag;
  std::string label;
};

constexpr char kl_tag[] = "attention/kl";

std::string source_of(const SourceRow& row) {
  return fmt::format("{} rows[{}]", row.report->path, row.row);
}

// Stored bits a value, with what is stored once a sequence.
double stored_bits(const SourceRow& row) {
  return row.json->at("bits_per_value").get<double>() + row.json->value("side_bits_per_value", 0.0);
}

// What rows are called: by their quantizer, and by report and device too where several measured it.
class RowLabels {
 public:
  explicit RowLabels(const Block& block) {
    for (const SourceRow& row : block.rows) origins_[row.quantizer].emplace(row.report_index, row.device);
  }
  std::string operator()(const SourceRow& row) const {
    if (origins_.at(row.quantizer).size() == 1) return row.quantizer;
    return fmt::format("{} ({}, [{}])", row.quantizer, row.device, row.report_index + 1);
  }

 private:
  std::map<std::string, std::set<std::pair<std::size_t, std::string>>> origins_;
};

// Series in the order in which their labels first appear.
class SeriesByQuantizer {
 public:
  explicit SeriesByQuantizer(const Block& block) : label_(block) {}

  void add(const SourceRow& row, FigurePoint point) {
    const std::string label = label_(row);
    auto found = std::find_if(series_.begin(), series_.end(),
                              [&](const FigureSeries& known) { return known.label == label; });
    if (found == series_.end()) found = series_.insert(series_.end(), FigureSeries{label, {}, false});
    found->points.push_back(std::move(point));
  }

  std::vector<FigureSeries> take() { return std::move(series_); }

 private:
  RowLabels label_;
  std::vector<FigureSeries> series_;
};

std::size_t count_points(const Figure& figure) {
  std::size_t points = 0;
  for (const FigureSeries& series : figure.series) points += series.points.size();
  return points;
}

// A logarithmic axis wherever all its numbers allow one.
void choose_log_y(Figure& figure) {
  figure.y.log = true;
  for (const FigureSeries& series : figure.series) {
    for (const FigurePoint& point : series.points)
      figure.y.log = figure.y.log && point.y > 0.0 && point.low >= 0.0;
  }
}

Shown shown_metric(const Block& block) {
  for (const SourceRow& row : block.rows) {
    if (row_metric(*row.json, kl_tag)) return {kl_tag, "attention KL (nats)"};
  }
  return {"key/nmse", "key NMSE"};
}

// The points that no other has both fewer bits and less error than, by ascending bits.
FigureSeries pareto_front(const std::vector<FigureSeries>& series) {
  std::vector<FigurePoint> points;
  for (const FigureSeries& one : series) points.insert(points.end(), one.points.begin(), one.points.end());
  std::stable_sort(points.begin(), points.end(), [](const FigurePoint& a, const FigurePoint& b) {
    return std::pair(a.x, a.y) < std::pair(b.x, b.y);
  });
  FigureSeries front{"Pareto front", {}, true};
  for (const FigurePoint& point : points) {
    if (front.points.empty() || point.y < front.points.back().y) front.points.push_back(point);
  }
  return front;
}

Figure pareto(const Block& block, const Shown& shown) {
  Figure figure;
  figure.name = "pareto";
  figure.title = "Error against stored bits";
  figure.caption =
      "Lower and further left is better. Bits count all that is stored, norms and scales, sinks and shifts "
      "included.";
  figure.x.label = "stored bits a value";
  figure.y.label = shown.label;
  SeriesByQuantizer series(block);
  for (const SourceRow& row : block.rows) {
    if (const auto metric = row_metric(*row.json, shown.tag))
      series.add(row, {stored_bits(row), metric->mean, metric->mean, metric->mean, source_of(row)});
  }
  figure.series = series.take();
  figure.series.insert(figure.series.begin(), pareto_front(figure.series));
  choose_log_y(figure);
  return figure;
}

// Quantizers down the page, since their names are long; a series for each width.
Figure seed_spread(const Block& block, const Shown& shown) {
  Figure figure;
  figure.name = "spread";
  figure.title = "Spread over seeds";
  figure.caption = "Points are means over seeds; bars reach from the best seed to the worst.";
  figure.x.label = shown.label;
  figure.bars = FigureBars::horizontal;
  figure.lines = false;
  const RowLabels label(block);
  std::map<std::string, double> places;
  for (const SourceRow& row : block.rows) {
    const double place = -static_cast<double>(places.size() + 1);  // the first on top
    if (places.emplace(label(row), place).second) figure.y.ticks.push_back({place, label(row)});
  }
  std::map<std::int64_t, FigureSeries> by_bits;
  double least = std::numeric_limits<double>::infinity();
  for (const SourceRow& row : block.rows) {
    const auto found = row.json->at("metrics").find(shown.tag);
    if (found == row.json->at("metrics").end()) continue;
    FigureSeries& series = by_bits[row.bits];
    series.label = fmt::format("{} bit{}", row.bits, row.bits == 1 ? "" : "s");
    series.points.push_back({found->at("mean").get<double>(), places.at(label(row)),
                             found->at("min").get<double>(), found->at("max").get<double>(), source_of(row)});
    least = std::min(least, series.points.back().low);
  }
  for (auto& [bits, series] : by_bits) figure.series.push_back(std::move(series));
  figure.x.log = least > 0.0;
  return figure;
}

std::int64_t middle_width(const Block& block, const FigureOptions& options) {
  std::set<std::int64_t> widths;
  for (const SourceRow& row : block.rows) widths.insert(row.bits);
  if (options.bits) {
    if (!widths.contains(*options.bits)) {
      throw Error(fmt::format("figures at {} bits: no row of {} has that width; present: {}", *options.bits,
                              block.path, fmt::join(widths, ", ")));
    }
    return *options.bits;
  }
  return *std::next(widths.begin(), static_cast<std::ptrdiff_t>((widths.size() - 1) / 2));
}

Figure by_layer(const Block& block, const Shown& shown, std::int64_t bits) {
  Figure figure;
  figure.name = "layers";
  figure.title = fmt::format("Error by layer at {} bits", bits);
  figure.caption = "Means over seeds and KV heads.";
  figure.x.label = "layer";
  figure.y.label = shown.label;
  SeriesByQuantizer series(block);
  for (const SourceRow& row : block.rows) {
    const auto held = row.json->find("by_layer");
    if (row.bits != bits || held == row.json->end() || !held->contains(shown.tag)) continue;
    const Json& dataset = row.report->json.at("datasets").at(row.json->at("dataset").get<std::size_t>());
    const Json& means = held->at(shown.tag);
    for (std::size_t i = 0; i < means.size(); ++i) {
      if (means[i].is_null()) continue;
      const double mean = means[i].get<double>();
      series.add(row, {dataset.at("layers").at(i).get<double>(), mean, mean, mean, source_of(row)});
    }
  }
  figure.series = series.take();
  choose_log_y(figure);
  return figure;
}

Figure by_position(const Block& block, std::int64_t bits) {
  Figure figure;
  figure.name = "positions";
  figure.title = fmt::format("Error by position at {} bits", bits);
  figure.caption = "Mean over the queries of each eighth of the sequence, seeds, layers and heads.";
  figure.x.label = "position of the query (tokens)";
  figure.y.label = "attention KL (nats)";
  SeriesByQuantizer series(block);
  for (const SourceRow& row : block.rows) {
    if (row.bits != bits) continue;
    const double tokens = row.report->json.at("datasets")
                              .at(row.json->at("dataset").get<std::size_t>())
                              .at("num_tokens")
                              .get<double>();
    for (std::size_t bin = 0; bin < num_position_bins; ++bin) {
      const auto metric = row_metric(*row.json, fmt::format("attention/kl_eighth{}", bin + 1));
      if (!metric) continue;
      const double middle =
          (static_cast<double>(bin) + 0.5) / static_cast<double>(num_position_bins) * tokens;
      series.add(row, {middle, metric->mean, metric->mean, metric->mean, source_of(row)});
    }
  }
  figure.series = series.take();
  choose_log_y(figure);
  return figure;
}

Figure ladder(const Block& block, const Shown& shown) {
  Figure figure;
  figure.name = "ladder";
  figure.title = "Rotations, from none to dense";
  figure.caption =
      "One codec and one codebook behind every rotation; bars reach from the best seed to the worst.";
  figure.x.label = "rotation";
  figure.y.label = shown.label;
  figure.bars = FigureBars::vertical;
  std::map<std::size_t, std::string> rungs;
  std::map<std::int64_t, FigureSeries> by_bits;
  for (const SourceRow& row : block.rows) {
    const auto rung = rotation_rung(row.json->at("keys").get<std::string>());
    const auto found = row.json->at("metrics").find(shown.tag);
    if (!rung || found == row.json->at("metrics").end()) continue;
    rungs.emplace(rung->order, rung->label);
    FigureSeries& series = by_bits[row.bits];
    series.label = fmt::format("{} bit{}", row.bits, row.bits == 1 ? "" : "s");
    series.points.push_back({static_cast<double>(rung->order), found->at("mean").get<double>(),
                             found->at("min").get<double>(), found->at("max").get<double>(), source_of(row)});
  }
  // Rungs that nobody measured leave no gap.
  std::map<double, double> places;
  for (const auto& [order, label] : rungs) {
    const double place = static_cast<double>(places.size() + 1);
    places[static_cast<double>(order)] = place;
    figure.x.ticks.push_back({place, label});
  }
  for (auto& [bits, series] : by_bits) {
    for (FigurePoint& point : series.points) point.x = places.at(point.x);
    std::stable_sort(series.points.begin(), series.points.end(),
                     [](const FigurePoint& a, const FigurePoint& b) { return a.x < b.x; });
    figure.series.push_back(std::move(series));
  }
  choose_log_y(figure);
  return figure;
}

std::vector<Figure> block_figures(const Block& block, const FigureOptions& options) {
  const Shown shown = shown_metric(block);
  const std::int64_t bits = middle_width(block, options);
  std::vector<Figure> figures{pareto(block, shown), seed_spread(block, shown), by_layer(block, shown, bits),
                              by_position(block, bits)};
  // Fewer rungs than these are a comparison, not a ladder.
  constexpr std::size_t fewest_rungs = 3;
  if (Figure rungs = ladder(block, shown); rungs.x.ticks.size() >= fewest_rungs)
    figures.push_back(std::move(rungs));
  std::erase_if(figures, [](const Figure& figure) { return count_points(figure) < 2; });
  return figures;
}

}  // namespace

std::vector<Figure> report_figures(const std::vector<ReportFile>& reports, const FigureOptions& options) {
  const std::vector<Block> blocks = collect_blocks(reports);
  std::vector<Figure> figures;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    try {
      for (Figure& figure : block_figures(blocks[i], options)) {
        if (i > 0) figure.name += fmt::format("-{}", i + 1);
        if (blocks.size() > 1) figure.caption += fmt::format(" {}.", blocks[i].title);
        figures.push_back(std::move(figure));
      }
    } catch (const Json::exception& error) {
      throw Error(fmt::format("these reports do not follow the report schema: {}", error.what()));
    }
  }
  return figures;
}

}  // namespace rotorquant::evaluation
