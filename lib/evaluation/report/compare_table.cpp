#include "evaluation/report/compare_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "evaluation/report/number_format.hpp"
#include "evaluation/report/table_rows.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

// A number with its confidence interval, where the comparison has them; as many decimals as the three need
// together.
TableCell interval_cell(const Json& comparison, const char* member, const char* interval_member,
                        NumberKind kind) {
  TableCell cell;
  const Json& value = comparison.at(member);
  if (value.is_null()) return cell;
  cell.value = value.get<double>();
  std::vector<double> numbers{*cell.value};
  const Json& ends = comparison.at(interval_member);
  if (!ends.is_null()) {
    cell.interval = ShownInterval{ends.at(0).get<double>(), ends.at(1).get<double>(), {}, {}};
    numbers.insert(numbers.end(), {cell.interval->low, cell.interval->high});
  }
  const NumberFormat format = choose_format(numbers, kind);
  cell.text = format.write(*cell.value);
  if (cell.interval) {
    cell.interval->low_text = format.write(cell.interval->low);
    cell.interval->high_text = format.write(cell.interval->high);
  }
  return cell;
}

TableCell percent_cell(double share) {
  TableCell cell;
  cell.value = 100.0 * share;
  cell.text = fmt::format("{:.0f}", *cell.value);
  return cell;
}

// Against the baseline's curve at the candidate's size; empty where both store the same or the curve does not
// reach.
TableCell ratio_cell(const Json& at_equal_bits) {
  TableCell cell;
  if (at_equal_bits.is_null()) return cell;
  cell.value = at_equal_bits.at("ratio").get<double>();
  cell.text = choose_format({*cell.value}, NumberKind::magnitude).write(*cell.value);
  return cell;
}

bool some_sizes_differ(const std::vector<ReportFile>& reports) {
  for (const ReportFile& report : reports) {
    const auto comparisons = report.json.find("comparisons");
    if (comparisons == report.json.end()) continue;
    for (const Json& comparison : *comparisons) {
      if (!comparison.at("at_equal_bits").is_null()) return true;
    }
  }
  return false;
}

// "no ranking (isotropic)" for the verdict no_ranking and its gate.
std::string verdict_text(const Json& comparison) {
  std::string text = comparison.at("verdict").get<std::string>();
  std::replace(text.begin(), text.end(), '_', ' ');
  const std::string gate = comparison.at("gate").get<std::string>();
  return gate.empty() ? text : fmt::format("{} ({})", text, gate);
}

std::vector<TableCell> comparison_line(const ReportFile& report, std::size_t index, const Json& dataset) {
  const Json& comparison = report.json.at("comparisons").at(index);
  const auto text_of = [&](const char* member) {
    return text_cell(comparison.at(member).get<std::string>());
  };
  return {text_cell(dataset.at("path").get<std::string>()),
          text_cell(dataset.at("sha256").get<std::string>()),
          text_of("candidate"),
          text_of("baseline"),
          integer_cell(comparison.at("bits").get<std::int64_t>()),
          text_of("metric"),
          interval_cell(comparison, "difference", "difference_interval", NumberKind::near_zero),
          interval_cell(comparison, "ratio", "ratio_interval", NumberKind::magnitude),
          percent_cell(comparison.at("cell_win_rate").get<double>()),
          ratio_cell(comparison.at("at_equal_bits")),
          text_cell(verdict_text(comparison)),
          text_of("sentence"),
          text_cell(report.path),
          integer_cell(static_cast<std::int64_t>(index))};
}

}  // namespace

Document compare_document(const std::vector<ReportFile>& reports) {
  Document document;
  document.sources = source_lines(reports);
  document.columns = {column("dataset", false, Shown::csv_only),
                      column("sha256", false, Shown::csv_only),
                      column("candidate", false),
                      column("baseline", false),
                      column("bits", true),
                      column("metric", false),
                      column("difference", true),
                      column("ratio", true),
                      column("cells won (%)", true),
                      column("ratio at equal stored bits", true,
                             some_sizes_differ(reports) ? Shown::everywhere : Shown::csv_only),
                      column("verdict", false),
                      column("sentence", false, Shown::csv_only),
                      column("report", false, Shown::csv_only),
                      column("comparison", true, Shown::csv_only)};
  for (const ReportFile& report : reports) {
    const auto comparisons = report.json.find("comparisons");
    if (comparisons == report.json.end()) continue;
    const Json& datasets = report.json.at("datasets");
    for (std::size_t dataset = 0; dataset < datasets.size(); ++dataset) {
      Table table;
      table.title = dataset_title(datasets[dataset]);
      std::set<std::pair<std::string, int>> told;
      for (std::size_t i = 0; i < comparisons->size(); ++i) {
        const Json& comparison = (*comparisons)[i];
        if (comparison.at("dataset").get<std::size_t>() != dataset) continue;
        table.rows.push_back(comparison_line(report, i, datasets[dataset]));
        // In words, the first metric alone: comparisons come with the most telling one first.
        const auto key =
            std::make_pair(comparison.at("candidate").get<std::string>(), comparison.at("bits").get<int>());
        if (!told.insert(key).second) continue;
        table.notes.push_back(
            fmt::format("{} bits: {}", key.second, comparison.at("sentence").get<std::string>()));
      }
      if (!table.rows.empty()) document.tables.push_back(std::move(table));
    }
  }
  if (document.tables.empty()) {
    throw Error(fmt::format(
        "{} no comparisons; 'rotorquant compare', or 'sweep --baseline NAME', writes them",
        reports.size() == 1 ? fmt::format("report '{}' has", reports.front().path) : "these reports have"));
  }
  return document;
}

}  // namespace rotorquant::evaluation
