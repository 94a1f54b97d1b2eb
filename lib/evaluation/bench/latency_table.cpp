#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "evaluation/bench/bench_report.hpp"
#include "evaluation/report/table_rows.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

// What the cells of one table have in common: all but the number of vectors.
std::string table_title(const Json& row) {
  return fmt::format("{} coordinates, {}, {} bits, {}", row.at("dim").get<std::int64_t>(),
                     row.at("type").get<std::string>(), row.at("bits").get<std::int64_t>(),
                     row.at("device").get<std::string>());
}

std::string text_of(const Json& quantizer) {
  return quantizer.is_null() ? "" : quantizer.get<std::string>();
}

}  // namespace

Document latency_tables(const std::vector<ReportFile>& reports) {
  struct Line {
    std::string operation, quantizer;
    std::map<std::int64_t, double> microseconds;  // by number of vectors
  };
  std::vector<std::pair<std::string, std::vector<Line>>> tables;  // by title, in order of appearance
  std::set<std::int64_t> counts;
  for (const ReportFile& report : reports) {
    for (const Json& row : report.json.at("rows")) {
      const std::string title = table_title(row);
      auto table =
          std::find_if(tables.begin(), tables.end(), [&](const auto& t) { return t.first == title; });
      if (table == tables.end()) table = tables.insert(tables.end(), {title, {}});
      const auto operation = row.at("operation").get<std::string>();
      const std::string quantizer = text_of(row.at("quantizer"));
      auto line = std::find_if(table->second.begin(), table->second.end(), [&](const Line& l) {
        return l.operation == operation && l.quantizer == quantizer;
      });
      if (line == table->second.end()) {
        line = table->second.insert(table->second.end(), {operation, quantizer, {}});
      }
      const auto vectors = row.at("vectors").get<std::int64_t>();
      counts.insert(vectors);
      line->microseconds[vectors] = 1e6 * row.at("time/seconds").at("median").get<double>();
    }
  }

  Document document;
  document.sources = source_lines(reports);
  document.columns = {column("operation", false), column("quantizer", false)};
  for (const std::int64_t count : counts) {
    Column made = column(fmt::format("n = {}", count), true);
    made.unit = "us";
    document.columns.push_back(made);
  }
  for (const auto& [title, lines] : tables) {
    Table& table = document.tables.emplace_back();
    table.title = title;
    for (const Line& line : lines) {
      std::vector<TableCell>& cells = table.rows.emplace_back();
      cells = {text_cell(line.operation), text_cell(line.quantizer)};
      for (const std::int64_t count : counts) {
        TableCell& cell = cells.emplace_back();
        const auto found = line.microseconds.find(count);
        if (found == line.microseconds.end()) continue;
        cell.value = found->second;
        cell.text = fmt::format("{:.1f}", found->second);
      }
    }
    table.notes.push_back("Microseconds of one call on n vectors; medians of interleaved rounds.");
  }
  return document;
}

}  // namespace rotorquant::evaluation
