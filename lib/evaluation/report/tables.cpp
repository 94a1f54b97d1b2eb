#include "evaluation/report/tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "evaluation/report/compare_table.hpp"
#include "evaluation/report/correlation_table.hpp"
#include "evaluation/report/stored_tables.hpp"
#include "evaluation/report/table_rows.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr std::array<std::pair<std::string_view, TableLayout>, 6> layouts{
    {{"rows", TableLayout::rows},
     {"pivot", TableLayout::pivot},
     {"compare", TableLayout::compare},
     {"equal-bits", TableLayout::equal_bits},
     {"stored", TableLayout::stored},
     {"correlations", TableLayout::correlations}}};

constexpr char worst_metric[] = "attention/kl";  // whose worst cell is shown; without it, the first metric's

Column csv_column(const std::string& name) {
  Column column;
  column.name = name;
  column.title = name;
  column.shown = Shown::csv_only;
  return column;
}

Column text_column(const std::string& name) {
  Column column;
  column.name = name;
  column.title = name;
  return column;
}

Column page_column(const std::string& name) {
  Column column = text_column(name);
  column.shown = Shown::page_only;
  return column;
}

Column integer_column(const std::string& name) {
  Column column = text_column(name);
  column.numeric = true;
  return column;
}

TableCell reference_cell(const SourceRow& row) {
  return text_cell(fmt::format("[{}]", row.report_index + 1));
}

TableCell member_cell(const SourceRow& row, const char* member) {
  return text_cell(row.json->at(member).get<std::string>());
}

bool several_devices(const std::vector<Block>& blocks) {
  std::set<std::string> devices;
  for (const Block& block : blocks) {
    for (const SourceRow& row : block.rows) devices.insert(row.device);
  }
  return devices.size() > 1;
}

// Notes that hold for any layout of these rows.
void append_notes(Table& table, const Block& block, const std::vector<MetricColumn>& metrics,
                  bool bold_best) {
  if (std::string note = spread_note(block.rows, metrics); !note.empty())
    table.notes.push_back(std::move(note));
  if (std::string note = side_note(block.rows); !note.empty()) table.notes.push_back(std::move(note));
  for (std::string& note : missing_notes(block.rows, metrics)) table.notes.push_back(std::move(note));
  if (block.isotropic)
    table.notes.push_back(
        "Keys and values are isotropic here: no orthogonal rotation can be ranked on them.");
  if (bold_best && !block.isotropic)
    table.notes.push_back("The best mean at each bit width is highlighted, where a ranking is possible.");
}

// Runs of equal bits in the ascending rows of a block, as [begin, end).
std::vector<std::pair<std::size_t, std::size_t>> bit_groups(const std::vector<SourceRow>& rows) {
  std::vector<std::pair<std::size_t, std::size_t>> groups;
  for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    while (end < rows.size() && rows[end].bits == rows[begin].bits) ++end;
    groups.emplace_back(begin, end);
  }
  return groups;
}

Document rows_document(const std::vector<ReportFile>& reports, const TableOptions& options) {
  const std::vector<Block> blocks = collect_blocks(reports);
  const std::vector<MetricColumn> metrics = choose_metrics(reports, blocks, options.metrics);
  const std::vector<MetricColumn> size = choose_metrics(reports, blocks, {stored_size_tag});
  const bool show_device = several_devices(blocks);
  const auto with_worst = std::find_if(metrics.begin(), metrics.end(),
                                       [](const MetricColumn& metric) { return metric.tag == worst_metric; });
  const MetricColumn& worst = with_worst != metrics.end() ? *with_worst : metrics.front();

  Document document;
  document.sources = source_lines(reports);
  document.columns = {csv_column("dataset"), csv_column("sha256"), text_column("quantizer"),
                      integer_column("bits"), size.front().column};
  if (show_device) document.columns.push_back(text_column("device"));
  for (const MetricColumn& metric : metrics) document.columns.push_back(metric.column);
  Column worst_column = worst.column;
  worst_column.name = fmt::format("worst {}", worst.tag);
  worst_column.title = fmt::format("worst {}", worst.column.title);
  worst_column.better.clear();
  document.columns.push_back(worst_column);
  if (reports.size() > 1) document.columns.push_back(page_column("source"));
  for (const char* name : {"keys", "values", "report", "row"}) document.columns.push_back(csv_column(name));

  for (const Block& block : blocks) {
    Table& table = document.tables.emplace_back();
    table.title = block.title;
    for (const SourceRow& row : block.rows) {
      std::vector<TableCell>& line = table.rows.emplace_back();
      line = {text_cell(block.path), text_cell(block.sha256), text_cell(row.quantizer),
              integer_cell(row.bits), metric_cell(row, size.front())};
      if (show_device) line.push_back(text_cell(row.device));
      for (const MetricColumn& metric : metrics) line.push_back(metric_cell(row, metric));
      line.push_back(worst_cell(row, worst));
      if (reports.size() > 1) line.push_back(reference_cell(row));
      line.push_back(member_cell(row, "keys"));
      line.push_back(member_cell(row, "values"));
      line.push_back(text_cell(row.report->path));
      line.push_back(integer_cell(static_cast<std::int64_t>(row.row)));
    }
    const std::size_t first_metric = show_device ? 6 : 5;
    for (const auto& [begin, end] : bit_groups(block.rows)) {
      if (begin > 0) table.group_starts.push_back(begin);
      if (!options.bold_best) continue;
      for (std::size_t m = 0; m < metrics.size(); ++m) {
        std::vector<const SourceRow*> group;
        std::vector<TableCell*> cells;
        for (std::size_t i = begin; i < end; ++i) {
          group.push_back(&block.rows[i]);
          cells.push_back(&table.rows[i][first_metric + m]);
        }
        mark_best(block, metrics[m], group, cells);
      }
    }
    append_notes(table, block, metrics, options.bold_best);
  }
  return document;
}

// One line of a pivot: the rows of one quantizer by bit width.
struct PivotLine {
  std::string quantizer;
  std::map<std::int64_t, const SourceRow*> by_bits;
};

// A quantizer that two reports, or two devices, measured at the same width has a line for each.
std::vector<PivotLine> pivot_lines(const Block& block) {
  std::set<std::pair<std::string, std::int64_t>> seen;
  std::set<std::string> repeated;
  for (const SourceRow& row : block.rows) {
    if (!seen.emplace(row.quantizer, row.bits).second) repeated.insert(row.quantizer);
  }
  std::vector<const SourceRow*> in_report_order;
  for (const SourceRow& row : block.rows) in_report_order.push_back(&row);
  std::sort(in_report_order.begin(), in_report_order.end(), [](const SourceRow* a, const SourceRow* b) {
    return std::pair(a->report_index, a->row) < std::pair(b->report_index, b->row);
  });
  std::vector<PivotLine> lines;
  for (const SourceRow* row : in_report_order) {
    std::string name = row->quantizer;
    if (repeated.contains(name)) name += fmt::format(" ({}, [{}])", row->device, row->report_index + 1);
    auto line = std::find_if(lines.begin(), lines.end(),
                             [&](const PivotLine& known) { return known.quantizer == name; });
    if (line == lines.end()) line = lines.insert(lines.end(), {name, {}});
    if (!line->by_bits.emplace(row->bits, row).second) {
      throw Error(fmt::format("report '{}': rows {} and {} are the same quantizer, bits, dump and device",
                              row->report->path, line->by_bits[row->bits]->row, row->row));
    }
  }
  return lines;
}

// What each width of the pivot stores, where its quantizers differ.
std::string stored_note(const Block& block, const MetricColumn& size) {
  std::string note;
  for (const auto& [begin, end] : bit_groups(block.rows)) {
    std::set<double> stored;
    for (std::size_t i = begin; i < end; ++i) stored.insert(row_metric(*block.rows[i].json, size.tag)->mean);
    note += fmt::format("{}{}{} at {}", note.empty() ? "" : ", ", size.format.write(*stored.begin()),
                        stored.size() > 1 ? fmt::format(" to {}", size.format.write(*stored.rbegin())) : "",
                        block.rows[begin].bits);
  }
  return fmt::format("Stored bits per value: {} bits.", note);
}

Document pivot_document(const std::vector<ReportFile>& reports, const TableOptions& options) {
  const std::vector<Block> blocks = collect_blocks(reports);
  const std::vector<MetricColumn> metrics = choose_metrics(reports, blocks, options.metrics);
  const std::vector<MetricColumn> size = choose_metrics(reports, blocks, {stored_size_tag});
  std::set<std::int64_t> widths;
  for (const Block& block : blocks) {
    for (const SourceRow& row : block.rows) widths.insert(row.bits);
  }

  Document document;
  document.sources = source_lines(reports);
  document.columns = {csv_column("dataset"), csv_column("sha256"), csv_column("metric"),
                      text_column("quantizer")};
  for (const std::int64_t bits : widths) {
    document.columns.push_back(integer_column(fmt::format("{} bit{}", bits, bits == 1 ? "" : "s")));
    for (const char* detail : {"bits_per_value", "report", "row"}) {
      document.columns.push_back(csv_column(fmt::format("{} bit{} {}", bits, bits == 1 ? "" : "s", detail)));
    }
  }

  for (const Block& block : blocks) {
    const std::vector<PivotLine> lines = pivot_lines(block);
    for (const MetricColumn& metric : metrics) {
      Table& table = document.tables.emplace_back();
      table.title = fmt::format("{}; {}", block.title, metric_heading(metric.column));
      for (const PivotLine& line : lines) {
        std::vector<TableCell>& cells = table.rows.emplace_back();
        cells = {text_cell(block.path), text_cell(block.sha256), text_cell(metric.tag),
                 text_cell(line.quantizer)};
        for (const std::int64_t bits : widths) {
          const auto found = line.by_bits.find(bits);
          if (found == line.by_bits.end()) {
            cells.resize(cells.size() + 4);
            continue;
          }
          const SourceRow& row = *found->second;
          cells.push_back(metric_cell(row, metric));
          cells.push_back(text_cell(fmt::to_string(row_metric(*row.json, stored_size_tag)->mean)));
          cells.push_back(text_cell(row.report->path));
          cells.push_back(integer_cell(static_cast<std::int64_t>(row.row)));
        }
      }
      std::size_t column = 4;
      for (const std::int64_t bits : widths) {
        std::vector<const SourceRow*> group;
        std::vector<TableCell*> cells;
        for (std::size_t i = 0; i < lines.size(); ++i) {
          const auto found = lines[i].by_bits.find(bits);
          if (found == lines[i].by_bits.end()) continue;
          group.push_back(found->second);
          cells.push_back(&table.rows[i][column]);
        }
        if (options.bold_best) mark_best(block, metric, group, cells);
        column += 4;
      }
      append_notes(table, block, {metric}, options.bold_best);
      table.notes.push_back(stored_note(block, size.front()));
    }
  }
  return document;
}

}  // namespace

TableLayout table_layout(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [known, layout] : layouts) {
    if (name == known) return layout;
    names.emplace_back(known);
  }
  throw UsageError(fmt::format("unknown table layout '{}'; expected {}{}", name, fmt::join(names, ", "),
                               nearest_hint(name, names)));
}

Document build_tables(const std::vector<ReportFile>& reports, const TableOptions& options) {
  if (reports.empty()) throw UsageError("tables need at least one report");
  try {
    switch (options.layout) {
      case TableLayout::rows:
        return rows_document(reports, options);
      case TableLayout::pivot:
        return pivot_document(reports, options);
      case TableLayout::compare:
        return compare_document(reports);
      case TableLayout::equal_bits:
        return equal_bits_document(reports, options);
      case TableLayout::stored:
        return stored_document(reports);
      case TableLayout::correlations:
        return correlation_document(reports);
    }
  } catch (const nlohmann::ordered_json::exception& error) {
    throw Error(fmt::format("{} do not follow the report schema: {}",
                            reports.size() == 1 ? fmt::format("'{}'", reports.front().path) : "these reports",
                            error.what()));
  }
  return {};
}

}  // namespace rotorquant::evaluation
