#include "evaluation/figures/bench_figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

constexpr double giga = 1e9;

struct BenchRow {
  std::string source;  // "bench.json rows[3]"
  const Json* json;
};

std::string shape_of(const Json& row) {
  return fmt::format("{} x {} {}, {} bits, {}, {}, {} thread{}", row.at("vectors").get<std::int64_t>(),
                     row.at("dim").get<std::int64_t>(), row.at("type").get<std::string>(),
                     row.at("bits").get<std::int64_t>(), row.at("residence").get<std::string>(),
                     row.at("device").get<std::string>(), row.at("threads").get<std::int64_t>(),
                     row.at("threads").get<std::int64_t>() == 1 ? "" : "s");
}

Figure roofline(const std::string& shape, const std::vector<BenchRow>& rows) {
  Figure figure;
  figure.name = "roofline";
  figure.title = "Bandwidth of operations";
  figure.caption = fmt::format(
      "Bytes that an ideal program moves, over the time taken: further right is faster. Bars are quartiles "
      "of interleaved rounds, the grey line a copy in the same "
      "rounds. {}.",
      shape);
  figure.x.label = "bandwidth (GB/s)";
  figure.bars = FigureBars::horizontal;
  figure.lines = false;
  std::map<std::string, double> places;
  std::vector<FigureSeries> series;
  std::optional<FigurePoint> roof;
  for (const BenchRow& row : rows) {
    const Json& quantizer = row.json->at("quantizer");
    const std::string operation = row.json->at("operation").get<std::string>();
    const std::string subject = quantizer.is_null() ? operation : quantizer.get<std::string>();
    const double place = -static_cast<double>(places.size() + 1);  // the first on top
    if (places.emplace(subject, place).second) figure.y.ticks.push_back({place, subject});
    const std::string label = quantizer.is_null() ? "yardsticks" : operation;
    auto found = std::find_if(series.begin(), series.end(),
                              [&](const FigureSeries& one) { return one.label == label; });
    if (found == series.end()) found = series.insert(series.end(), FigureSeries{label, {}, false});
    const double speed = row.json->at("throughput/bytes").get<double>() / giga;
    const Json& time = row.json->at("time/seconds");
    const double work = speed * time.at("median").get<double>();
    found->points.push_back({speed, places.at(subject), work / time.at("upper_quartile").get<double>(),
                             work / time.at("lower_quartile").get<double>(), row.source});
    if (operation == "copy") roof = found->points.back();
  }
  if (roof) {
    FigureSeries line{"roof: a copy", {*roof, *roof}, true};
    line.points[0].y = -0.55;
    line.points[1].y = -static_cast<double>(places.size()) - 0.45;
    figure.series.push_back(std::move(line));
  }
  figure.series.insert(figure.series.end(), series.begin(), series.end());
  figure.x.log = true;
  return figure;
}

}  // namespace

std::vector<Figure> bench_figures(const std::vector<ReportFile>& reports) {
  std::vector<std::pair<std::string, std::vector<BenchRow>>> shapes;  // in order of appearance
  std::vector<Figure> figures;
  try {
    for (const ReportFile& report : reports) {
      const Json& rows = report.json.at("rows");
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::string shape = shape_of(rows[i]);
        auto found = std::find_if(shapes.begin(), shapes.end(),
                                  [&](const auto& known) { return known.first == shape; });
        if (found == shapes.end()) found = shapes.insert(shapes.end(), {shape, {}});
        found->second.push_back({fmt::format("{} rows[{}]", report.path, i), &rows[i]});
      }
    }
    for (const auto& [shape, rows] : shapes) {
      figures.push_back(roofline(shape, rows));
      if (figures.size() > 1) figures.back().name += fmt::format("-{}", figures.size());
    }
  } catch (const Json::exception& error) {
    throw Error(fmt::format("these reports do not follow the schema of benchmarks: {}", error.what()));
  }
  return figures;
}

}  // namespace rotorquant::evaluation
