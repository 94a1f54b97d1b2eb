#include "evaluation/report/correlation_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "evaluation/report/table_rows.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

TableCell correlation_cell(const Json& value) {
  TableCell cell;
  if (value.is_null()) return cell;
  cell.value = value.get<double>();
  cell.text = fmt::format("{:.3f}", *cell.value);
  return cell;
}

std::vector<std::string> distinct(const Json& correlations, const char* member) {
  std::vector<std::string> names;
  for (const Json& entry : correlations) {
    const std::string name = entry.at(member).get<std::string>();
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

// The entry of one dump, metric and target, or null.
const Json* find_entry(const Json& correlations, std::size_t dataset, const std::string& metric,
                       const std::string& target) {
  for (const Json& entry : correlations) {
    if (entry.at("dataset").get<std::size_t>() == dataset && entry.at("metric") == metric &&
        entry.at("target") == target)
      return &entry;
  }
  return nullptr;
}

}  // namespace

Document correlation_document(const std::vector<ReportFile>& reports) {
  Json all = Json::array();
  for (const ReportFile& report : reports) {
    const auto correlations = report.json.find("correlations");
    if (correlations != report.json.end()) all.insert(all.end(), correlations->begin(), correlations->end());
  }
  if (all.empty()) {
    throw Error(
        "these reports hold no rank correlations; valid: sweeps of three or more settings on a dump with "
        "queries");
  }
  const std::vector<std::string> targets = distinct(all, "target");
  Document document;
  document.sources = source_lines(reports);
  document.columns = {column("dataset", false, Shown::csv_only), column("sha256", false, Shown::csv_only),
                      column("metric", false)};
  for (const std::string& target : targets) {
    document.columns.push_back(column(fmt::format("rank correlation with {}", target), true));
    document.columns.push_back(column("at equal bits", true));
  }
  for (const ReportFile& report : reports) {
    const auto correlations = report.json.find("correlations");
    if (correlations == report.json.end()) continue;
    const Json& datasets = report.json.at("datasets");
    for (std::size_t dataset = 0; dataset < datasets.size(); ++dataset) {
      Table table;
      table.title = dataset_title(datasets[dataset]);
      std::int64_t rows = 0;
      for (const std::string& metric : distinct(*correlations, "metric")) {
        std::vector<TableCell> line = {text_cell(datasets[dataset].at("path").get<std::string>()),
                                       text_cell(datasets[dataset].at("sha256").get<std::string>()),
                                       text_cell(metric)};
        bool any = false;
        for (const std::string& target : targets) {
          const Json* entry = find_entry(*correlations, dataset, metric, target);
          line.push_back(entry ? correlation_cell(entry->at("overall")) : TableCell{});
          line.push_back(entry ? correlation_cell(entry->at("within")) : TableCell{});
          if (entry) rows = std::max(rows, entry->at("rows").get<std::int64_t>());
          any = any || entry != nullptr;
        }
        if (any) table.rows.push_back(std::move(line));
      }
      if (table.rows.empty()) continue;
      table.notes.push_back(fmt::format(
          "Spearman's rank correlation over {} rows (quantizers and widths); at equal bits: inside each "
          "width, averaged over widths. Metrics count as losses: 1 says that both rank all rows alike.",
          rows));
      document.tables.push_back(std::move(table));
    }
  }
  return document;
}

}  // namespace rotorquant::evaluation
