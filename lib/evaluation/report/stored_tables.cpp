#include "evaluation/report/stored_tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/report/number_format.hpp"
#include "evaluation/report/table_rows.hpp"
#include "evaluation/statistics/rate_curve.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* default_metrics[] = {"attention/kl", "output/nmse"};
// The yardstick where a report names no baseline.
constexpr char usual_baseline[] = "turboquant";
// Two sizes that print alike are one column.
constexpr double same_size = 5e-4;

double side_bits(const SourceRow& row) {
  return row.json->at("side_bits_per_value").get<double>();
}

double total_bits(const SourceRow& row) {
  return row.json->at("bits_per_value").get<double>() + side_bits(row);
}

// Bits a value by kind, of keys and values together, in the order in which they are met.
std::vector<std::pair<std::string, double>> fields_of(const SourceRow& row) {
  std::vector<std::pair<std::string, double>> fields;
  double dims = 0.0;
  for (const char* tensor : {"keys", "values"}) {
    const Json& stored = row.json->at("stored").at(tensor);
    dims += stored.at("bits_per_vector").get<double>() / stored.at("bits_per_value").get<double>();
    for (const auto& [name, bits] : stored.at("fields").items()) {
      const auto known =
          std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.first == name; });
      if (known == fields.end()) {
        fields.emplace_back(name, bits.get<double>());
      } else {
        known->second += bits.get<double>();
      }
    }
  }
  for (auto& [name, bits] : fields) bits /= dims;
  return fields;
}

void collect_names(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

TableCell number_cell(double value, const NumberFormat& format) {
  TableCell cell;
  cell.value = value;
  cell.text = format.write(value);
  return cell;
}

// One quantizer's curve of one metric.
struct Curve {
  std::string quantizer;
  std::vector<RatePoint> points;
  std::vector<const SourceRow*> rows;  // [points]
};

double loss_of(const std::string& better, double value) {
  if (better == "higher") return 1.0 - value;
  if (better == "zero") return std::abs(value);
  if (better == "one") return std::abs(value - 1.0);
  return value;
}

std::vector<Curve> curves_of(const Block& block, const MetricColumn& metric) {
  std::vector<const SourceRow*> in_report_order;
  for (const SourceRow& row : block.rows) in_report_order.push_back(&row);
  std::sort(in_report_order.begin(), in_report_order.end(), [](const SourceRow* a, const SourceRow* b) {
    return std::pair(a->report_index, a->row) < std::pair(b->report_index, b->row);
  });
  std::vector<Curve> curves;
  for (const SourceRow* row : in_report_order) {
    const std::optional<RowMetric> found = row_metric(*row->json, metric.tag);
    if (!found) continue;
    auto curve = std::find_if(curves.begin(), curves.end(),
                              [&](const Curve& known) { return known.quantizer == row->quantizer; });
    if (curve == curves.end()) curve = curves.insert(curves.end(), Curve{row->quantizer, {}, {}});
    curve->points.push_back({total_bits(*row), loss_of(metric.column.better, found->mean)});
    curve->rows.push_back(row);
  }
  return curves;
}

// The sizes of the baseline's rows: of the report's own, or of the usual one, or of the first quantizer.
std::vector<double> baseline_sizes(const std::vector<ReportFile>& reports, const std::vector<Block>& blocks) {
  std::string baseline = reports.front().json.at("meta").at("config").value("baseline", std::string());
  const auto rows_of = [&](const std::string& name) {
    std::vector<double> sizes;
    for (const Block& block : blocks) {
      for (const SourceRow& row : block.rows) {
        if (row.json->at("quantizer").get<std::string>() == name) sizes.push_back(total_bits(row));
      }
    }
    return sizes;
  };
  std::vector<double> sizes = rows_of(baseline.empty() ? usual_baseline : baseline);
  if (sizes.empty()) sizes = rows_of(blocks.front().rows.front().json->at("quantizer").get<std::string>());
  std::sort(sizes.begin(), sizes.end());
  const auto last =
      std::unique(sizes.begin(), sizes.end(), [](double a, double b) { return std::abs(a - b) < same_size; });
  sizes.erase(last, sizes.end());
  return sizes;
}

// The metric whose loss this is.
double value_of(const std::string& better, double loss) {
  return better == "higher" ? 1.0 - loss : better == "one" ? 1.0 + loss : loss;
}

std::string front_widths(const Curve& curve, const std::vector<Curve>& curves) {
  std::vector<RatePoint> all;
  for (const Curve& other : curves) all.insert(all.end(), other.points.begin(), other.points.end());
  std::vector<std::int64_t> widths;
  for (std::size_t i = 0; i < curve.points.size(); ++i) {
    if (on_front(curve.points[i], all)) widths.push_back(curve.rows[i]->bits);
  }
  return fmt::format("{}", fmt::join(widths, ", "));
}

}  // namespace

Document stored_document(const std::vector<ReportFile>& reports) {
  const std::vector<Block> blocks = collect_blocks(reports);
  std::vector<std::string> kinds, sides;
  std::vector<double> sizes;
  for (const Block& block : blocks) {
    for (const SourceRow& row : block.rows) {
      for (const auto& [name, bits] : fields_of(row)) collect_names(kinds, name);
      for (const auto& [name, bits] : row.json->at("side").items()) collect_names(sides, name);
      sizes.push_back(total_bits(row));
    }
  }
  const NumberFormat format = choose_size_format(sizes);
  Document document;
  document.sources = source_lines(reports);
  document.columns = {column("dataset", false, Shown::csv_only), column("sha256", false, Shown::csv_only),
                      column("quantizer", false), column("bits", true)};
  for (const std::string& kind : kinds) document.columns.push_back(column(kind, true));
  document.columns.push_back(column("bits/value", true));
  for (const std::string& side : sides) document.columns.push_back(column(side, true));
  document.columns.push_back(column("total", true));
  for (const Block& block : blocks) {
    Table& table = document.tables.emplace_back();
    table.title = block.title;
    for (std::size_t i = 0; i < block.rows.size(); ++i) {
      const SourceRow& row = block.rows[i];
      if (i > 0 && row.bits != block.rows[i - 1].bits) table.group_starts.push_back(i);
      std::vector<TableCell>& line = table.rows.emplace_back();
      line = {text_cell(block.path), text_cell(block.sha256), text_cell(row.quantizer),
              integer_cell(row.bits)};
      const std::vector<std::pair<std::string, double>> fields = fields_of(row);
      for (const std::string& kind : kinds) {
        const auto found =
            std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.first == kind; });
        line.push_back(found == fields.end() ? TableCell{} : number_cell(found->second, format));
      }
      line.push_back(number_cell(row.json->at("bits_per_value").get<double>(), format));
      const Json& side = row.json->at("side");
      for (const std::string& name : sides)
        line.push_back(side.contains(name) ? number_cell(side.at(name).get<double>(), format) : TableCell{});
      line.push_back(number_cell(total_bits(row), format));
    }
    table.notes.push_back(
        "Bits a value, keys and values together. Columns after bits/value are stored once a sequence, at "
        "this dump's "
        "length; tokens in 16 bits count what they take beyond a code.");
  }
  return document;
}

Document equal_bits_document(const std::vector<ReportFile>& reports, const TableOptions& options) {
  const std::vector<Block> blocks = collect_blocks(reports);
  std::vector<std::string> tags = options.metrics;
  if (tags.empty()) tags.assign(std::begin(default_metrics), std::end(default_metrics));
  const std::vector<MetricColumn> metrics = choose_metrics(reports, blocks, tags);
  const std::vector<double> sizes = options.sizes.empty() ? baseline_sizes(reports, blocks) : options.sizes;

  Document document;
  document.sources = source_lines(reports);
  document.columns = {column("dataset", false, Shown::csv_only), column("sha256", false, Shown::csv_only),
                      column("metric", false, Shown::csv_only), column("quantizer", false)};
  for (const double size : sizes)
    document.columns.push_back(column(fmt::format("{:.4g} bits/value", size), true));
  document.columns.push_back(column("on the front at", false));
  bool reached = false;
  for (const Block& block : blocks) {
    for (const MetricColumn& metric : metrics) {
      Table& table = document.tables.emplace_back();
      table.title = fmt::format("{}; {}", block.title, metric_heading(metric.column));
      const std::vector<Curve> curves = curves_of(block, metric);
      for (const Curve& curve : curves) {
        std::vector<TableCell>& line = table.rows.emplace_back();
        line = {text_cell(block.path), text_cell(block.sha256), text_cell(metric.tag),
                text_cell(curve.quantizer)};
        for (const double size : sizes) {
          const std::optional<double> loss = loss_at(curve.points, size);
          reached = reached || loss.has_value();
          line.push_back(loss ? number_cell(value_of(metric.column.better, *loss), metric.format)
                              : TableCell{});
        }
        line.push_back(text_cell(front_widths(curve, curves)));
      }
      if (options.bold_best) {
        for (std::size_t s = 0; s < sizes.size() && !block.isotropic; ++s) {
          TableCell* best = nullptr;
          for (auto& line : table.rows) {
            TableCell& cell = line[4 + s];
            const auto loss = [&](const TableCell& c) { return loss_of(metric.column.better, *c.value); };
            if (cell.value && (best == nullptr || loss(cell) < loss(*best))) best = &cell;
          }
          if (best != nullptr) best->bold = true;
        }
      }
      table.notes.push_back(
          "Stored bits a value of keys and values, side data included. Between its measured widths a "
          "quantizer's "
          "error is interpolated on a logarithmic scale, beyond them it is left out. The last column names "
          "the widths "
          "that no other row beats in both size and error.");
    }
  }
  if (!reached) {
    throw Error(
        fmt::format("no quantizer was measured on both sides of {} bits/value; valid: sizes between the "
                    "stored bits of its rows",
                    fmt::join(sizes, ", ")));
  }
  return document;
}

}  // namespace rotorquant::evaluation
