// Pipe tables (GitHub-flavoured Markdown), with the title in bold above and notes and sources below.
#include <fmt/format.h>

#include <string_view>

#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr char missing[] = "–";

// Backslashes before whatever Markdown or the table itself would read as markup; one line whatever the text
// holds.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\|*_`<>[]~#$&").find(c) != std::string_view::npos) out += '\\';
    out += c == '\n' || c == '\r' ? ' ' : c;
  }
  return out;
}

std::string heading(const Column& column) {
  std::string text = escaped(column.title);
  if (!column.unit.empty()) text += fmt::format(" ({})", escaped(column.unit));
  if (column.better == "lower") text += " ↓";
  if (column.better == "higher") text += " ↑";
  if (column.better == "zero") text += " → 0";
  if (column.better == "one") text += " → 1";
  return text;
}

std::string shown(const TableCell& cell) {
  if (cell.text.empty()) return missing;
  std::string text = escaped(cell.text);
  if (cell.bold) text = fmt::format("**{}**", text);
  if (!cell.spread_text.empty()) text += fmt::format(" ± {}", cell.spread_text);
  if (cell.interval) text += fmt::format(" \\[{}, {}\\]", cell.interval->low_text, cell.interval->high_text);
  if (!cell.note.empty()) text += fmt::format(" ({})", escaped(cell.note));
  return text;
}

std::string render_table(const Document& document, const Table& table) {
  const std::vector<std::size_t> columns = page_columns(document);
  std::string text = table.title.empty() ? "" : fmt::format("**{}**\n\n", escaped(table.title));
  std::string rule;
  for (const std::size_t column : columns) {
    text += fmt::format("| {} ", heading(document.columns[column]));
    rule += document.columns[column].numeric ? "|---:" : "|:---";
  }
  text += fmt::format("|\n{}|\n", rule);
  for (const auto& row : table.rows) {
    for (const std::size_t column : columns) text += fmt::format("| {} ", shown(row[column]));
    text += "|\n";
  }
  for (const std::string& note : table.notes) text += fmt::format("\n{}\n", escaped(note));
  return text;
}

}  // namespace

std::string render_markdown(const Document& document) {
  std::string text;
  for (const Table& table : document.tables) {
    if (!text.empty()) text += '\n';
    text += render_table(document, table);
  }
  for (const std::string& source : document.sources) text += fmt::format("\nSource: {}\n", escaped(source));
  return text;
}

}  // namespace rotorquant::evaluation
