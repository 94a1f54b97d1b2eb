// Aligned columns for a terminal. Column widths count characters, not bytes: "±" is one.
#include <fmt/format.h>

#include <algorithm>

#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr char missing[] = "-";
constexpr std::size_t gap = 2;  // spaces between columns

std::size_t display_width(const std::string& text) {
  // Every UTF-8 character has one byte that is not a continuation (10xxxxxx).
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t width, bool right) {
  const std::string spaces(width - std::min(width, display_width(text)), ' ');
  return right ? spaces + text : text + spaces;
}

std::string heading(const Column& column) {
  return column.unit.empty() ? column.title : fmt::format("{} ({})", column.title, column.unit);
}

std::string shown(const TableCell& cell) {
  if (cell.text.empty()) return missing;
  std::string text = cell.text;
  if (cell.bold) text.insert(0, 1, '*');
  if (!cell.spread_text.empty()) text += fmt::format(" ± {}", cell.spread_text);
  if (cell.interval) text += fmt::format(" [{}, {}]", cell.interval->low_text, cell.interval->high_text);
  if (!cell.note.empty()) text += fmt::format(" ({})", cell.note);
  return text;
}

std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

std::string render_table(const Document& document, const Table& table) {
  const std::vector<std::size_t> columns = page_columns(document);
  std::vector<std::size_t> widths;
  for (const std::size_t column : columns) {
    std::size_t width = display_width(heading(document.columns[column]));
    for (const auto& row : table.rows) width = std::max(width, display_width(shown(row[column])));
    widths.push_back(width);
  }
  const auto line_of = [&](auto text_of) {
    std::string line;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (i > 0) line.append(gap, ' ');
      line += padded(text_of(columns[i]), widths[i], document.columns[columns[i]].numeric);
    }
    return trimmed(line) + "\n";
  };
  std::string text = table.title.empty() ? "" : fmt::format("{}\n", table.title);
  text += line_of([&](std::size_t column) { return heading(document.columns[column]); });
  std::size_t total = gap * (columns.size() - 1);
  for (const std::size_t width : widths) total += width;
  text += std::string(total, '-') + "\n";
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    if (std::find(table.group_starts.begin(), table.group_starts.end(), i) != table.group_starts.end())
      text += "\n";
    text += line_of([&](std::size_t column) { return shown(table.rows[i][column]); });
  }
  for (const std::string& note : table.notes) text += fmt::format("{}\n", note);
  return text;
}

}  // namespace

std::string render_text(const Document& document) {
  std::string text;
  for (const Table& table : document.tables) {
    if (!text.empty()) text += '\n';
    text += render_table(document, table);
  }
  if (!text.empty() && !document.sources.empty()) text += "\n";
  for (const std::string& source : document.sources) text += fmt::format("Source: {}\n", source);
  return text;
}

}  // namespace rotorquant::evaluation
