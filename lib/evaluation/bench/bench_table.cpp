#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <tuple>

#include "evaluation/bench/bench_report.hpp"
#include "evaluation/report/number_format.hpp"
#include "evaluation/report/table_rows.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

Column number_column(const std::string& name, const std::string& title, const std::string& unit) {
  Column made = column(name, true);
  made.title = title;
  made.unit = unit;
  return made;
}

TableCell number_cell(std::optional<double> value, int decimals) {
  TableCell cell;
  if (!value) return cell;
  cell.value = value;
  cell.text = fmt::format("{:.{}f}", *value, decimals);
  return cell;
}

std::optional<double> member(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return std::nullopt;
  return found->get<double>();
}

// What the rows of one table have in common.
std::string shape_title(const Json& row) {
  const auto threads = row.at("threads").get<std::int64_t>();
  return fmt::format("{} x {} {}, {} bits, {}, {}, {}", row.at("vectors").get<std::int64_t>(),
                     row.at("dim").get<std::int64_t>(), row.at("type").get<std::string>(),
                     row.at("bits").get<std::int64_t>(), row.at("residence").get<std::string>(),
                     row.at("device").get<std::string>(),
                     threads == 1 ? "1 thread" : fmt::format("{} threads", threads));
}

// The rival whose ratios a table shows: the first in the table that has rivals of its own kind.
std::vector<std::string> rivals_of(const std::vector<const Json*>& rows) {
  std::vector<std::string> rivals;
  for (const Json* row : rows) {
    for (const auto& [rival, ratio] : row->at("throughput/over").items()) {
      if (std::find(rivals.begin(), rivals.end(), rival) == rivals.end()) rivals.push_back(rival);
    }
  }
  return rivals;
}

}  // namespace

Document bench_tables(const std::vector<ReportFile>& reports) {
  struct Source {
    const ReportFile* report;
    std::size_t row;
    const Json* json;
  };
  std::vector<std::pair<std::string, std::vector<Source>>> tables;  // by title, in order of appearance
  std::vector<const Json*> all;
  for (const ReportFile& report : reports) {
    std::size_t index = 0;
    for (const Json& row : report.json.at("rows")) {
      const std::string title = shape_title(row);
      auto found =
          std::find_if(tables.begin(), tables.end(), [&](const auto& t) { return t.first == title; });
      if (found == tables.end()) found = tables.insert(tables.end(), {title, {}});
      found->second.push_back({&report, index++, &row});
      all.push_back(&row);
    }
  }
  const std::vector<std::string> rivals = rivals_of(all);

  Document document;
  document.sources = source_lines(reports);
  document.columns = {column("operation", false),
                      column("quantizer", false),
                      number_column("time/seconds", "time", "ns a vector"),
                      number_column("spread", "quartiles", "%"),
                      number_column("throughput/bytes", "bandwidth", "GB/s"),
                      number_column("throughput/fraction_of_copy", "of copy", ""),
                      number_column("throughput/fraction_of_read", "of read", "")};
  for (const std::string& rival : rivals)
    document.columns.push_back(number_column("over " + rival, "over " + rival, ""));
  for (const char* name : {"report", "row"}) document.columns.push_back(column(name, false, Shown::csv_only));
  for (const auto& [title, sources] : tables) {
    Table& table = document.tables.emplace_back();
    table.title = title;
    std::string operation;
    for (const Source& source : sources) {
      const Json& row = *source.json;
      const std::string name = row.at("operation").get<std::string>();
      if (!operation.empty() && name != operation) table.group_starts.push_back(table.rows.size());
      operation = name;
      const Json& time = row.at("time/seconds");
      const double median = time.at("median").get<double>();
      const double spread = time.at("upper_quartile").get<double>() - time.at("lower_quartile").get<double>();
      std::vector<TableCell>& line = table.rows.emplace_back();
      line = {text_cell(name),
              text_cell(row.at("quantizer").is_null() ? "" : row.at("quantizer").get<std::string>()),
              number_cell(1e9 * median / row.at("vectors").get<double>(), 2),
              number_cell(100.0 * spread / median, 1),
              number_cell(1e-9 * row.at("throughput/bytes").get<double>(), 2),
              number_cell(member(row, "throughput/fraction_of_copy"), 2),
              number_cell(member(row, "throughput/fraction_of_read"), 2)};
      for (const std::string& rival : rivals)
        line.push_back(number_cell(member(row.at("throughput/over"), rival.c_str()), 2));
      line.push_back(text_cell(source.report->path));
      line.push_back(integer_cell(static_cast<std::int64_t>(source.row)));
    }
    table.notes.push_back(
        "Medians of interleaved rounds; bytes are those an ideal program moves; 'over' is a speed divided by "
        "that of the rival's same operation in the same rounds.");
  }
  return document;
}

}  // namespace rotorquant::evaluation
