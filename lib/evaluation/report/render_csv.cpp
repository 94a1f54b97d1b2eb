// RFC 4180 with one head for all tables of a document. A number column is followed by its standard deviation,
// its interval and its note where some row has them; numbers are in full precision and empty where a report
// has none.
#include <fmt/format.h>

#include <algorithm>

#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {
namespace {

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out(1, '"');
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
  return out;
}

template <typename Predicate>
bool some_cell(const Document& document, std::size_t column, Predicate holds) {
  return std::any_of(document.tables.begin(), document.tables.end(), [&](const Table& table) {
    return std::any_of(table.rows.begin(), table.rows.end(),
                       [&](const auto& row) { return holds(row[column]); });
  });
}

struct CsvColumn {
  std::size_t column;
  bool has_spread;
  bool has_interval;
  bool has_note;
};

std::string line_of(std::vector<std::string> fields) {
  for (std::string& field : fields) field = quoted(field);
  return fmt::format("{}\n", fmt::join(fields, ","));
}

}  // namespace

std::string render_csv(const Document& document) {
  std::vector<CsvColumn> columns;
  std::vector<std::string> head;
  for (std::size_t i = 0; i < document.columns.size(); ++i) {
    if (document.columns[i].shown == Shown::page_only) continue;
    const std::string& name = document.columns[i].name;
    columns.push_back(
        {i, some_cell(document, i, [](const TableCell& cell) { return cell.spread.has_value(); }),
         some_cell(document, i, [](const TableCell& cell) { return cell.interval.has_value(); }),
         some_cell(document, i, [](const TableCell& cell) { return !cell.note.empty(); })});
    head.push_back(name);
    if (columns.back().has_spread) head.push_back(name + " std");
    if (columns.back().has_interval) {
      head.push_back(name + " low");
      head.push_back(name + " high");
    }
    if (columns.back().has_note) head.push_back(name + " at");
  }
  std::string text = line_of(head);
  for (const Table& table : document.tables) {
    for (const auto& row : table.rows) {
      std::vector<std::string> fields;
      for (const auto& [column, has_spread, has_interval, has_note] : columns) {
        const TableCell& cell = row[column];
        fields.push_back(cell.value ? fmt::format("{}", *cell.value) : cell.text);
        if (has_spread) fields.push_back(cell.spread ? fmt::format("{}", *cell.spread) : "");
        if (has_interval) {
          fields.push_back(cell.interval ? fmt::format("{}", cell.interval->low) : "");
          fields.push_back(cell.interval ? fmt::format("{}", cell.interval->high) : "");
        }
        if (has_note) fields.push_back(cell.note);
      }
      text += line_of(fields);
    }
  }
  return text;
}

}  // namespace rotorquant::evaluation
