// Booktabs tables that paste into a paper as they are: numbers in math mode, everything else escaped, sources
// as comments.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr char missing[] = "--";

std::string escaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    switch (c) {
      case '\\':
        out += "\\textbackslash{}";
        break;
      case '~':
        out += "\\textasciitilde{}";
        break;
      case '^':
        out += "\\textasciicircum{}";
        break;
      case '&':
      case '%':
      case '$':
      case '#':
      case '_':
      case '{':
      case '}':
        out += '\\';
        out += c;
        break;
      case '|':
        out += "\\textbar{}";
        break;
      case '<':
        out += "\\textless{}";
        break;
      case '>':
        out += "\\textgreater{}";
        break;
      case '"':
        out += "''";  // \textquotedbl exists only in some font encodings
        break;
      case '\n':
      case '\r':
        out += ' ';
        break;
      default:
        if (text.substr(i).starts_with("±")) {
          out += "$\\pm$";
          i += std::string_view("±").size() - 1;
        } else {
          out += c;
        }
    }
  }
  return out;
}

// "8.3e-08" as 8.3 \times 10^{-8}; for math mode.
std::string number(const std::string& text) {
  const std::size_t exponent = text.find('e');
  if (exponent == std::string::npos) return text;
  return fmt::format("{} \\times 10^{{{}}}", text.substr(0, exponent), std::stoi(text.substr(exponent + 1)));
}

std::string heading(const Column& column) {
  std::string text = escaped(column.title);
  if (column.unit.starts_with("10^")) {
    const std::size_t end = std::min(column.unit.find(' '), column.unit.size());
    text += fmt::format(" ($10^{{{}}}${})", column.unit.substr(3, end - 3), escaped(column.unit.substr(end)));
  } else if (!column.unit.empty()) {
    text += fmt::format(" ({})", escaped(column.unit));
  }
  if (column.better == "lower") text += " $\\downarrow$";
  if (column.better == "higher") text += " $\\uparrow$";
  if (column.better == "zero") text += " $\\to 0$";
  if (column.better == "one") text += " $\\to 1$";
  return text;
}

std::string shown(const TableCell& cell) {
  if (cell.text.empty()) return missing;
  std::string text;
  if (cell.value) {
    const std::string mean = number(cell.text);
    const std::string spread =
        cell.spread_text.empty() ? "" : fmt::format(" \\pm {}", number(cell.spread_text));
    const std::string interval = cell.interval ? fmt::format("\\ [{}, {}]", number(cell.interval->low_text),
                                                             number(cell.interval->high_text))
                                               : "";
    text = fmt::format("${}{}{}$", cell.bold ? fmt::format("\\mathbf{{{}}}", mean) : mean, spread, interval);
  } else {
    text = escaped(cell.text);
  }
  if (!cell.note.empty()) text += fmt::format(" ({})", escaped(cell.note));
  return text;
}

std::string line_of(const std::vector<std::string>& cells) {
  return fmt::format("    {} \\\\\n", fmt::join(cells, " & "));
}

std::string render_table(const Document& document, const Table& table, std::size_t number_of_table) {
  const std::vector<std::size_t> columns = page_columns(document);
  std::string alignment;
  std::vector<std::string> headings;
  for (const std::size_t column : columns) {
    alignment += document.columns[column].numeric ? 'r' : 'l';
    headings.push_back(heading(document.columns[column]));
  }
  std::string text = "\\begin{table}[t]\n  \\centering\n";
  text += fmt::format("  \\caption{{{}}}\n  \\label{{tab:rotorquant-{}}}\n", escaped(table.title),
                      number_of_table);
  text += fmt::format("  \\begin{{tabular}}{{{}}}\n    \\toprule\n", alignment);
  text += line_of(headings) + "    \\midrule\n";
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    if (std::find(table.group_starts.begin(), table.group_starts.end(), i) != table.group_starts.end()) {
      text += "    \\midrule\n";
    }
    std::vector<std::string> cells;
    for (const std::size_t column : columns) cells.push_back(shown(table.rows[i][column]));
    text += line_of(cells);
  }
  text += "    \\bottomrule\n  \\end{tabular}\n";
  if (!table.notes.empty()) {
    text += "  \\par\\smallskip{\\footnotesize\n";
    for (const std::string& note : table.notes) text += fmt::format("    {}\n", escaped(note));
    text += "  \\par}\n";
  }
  return text + "\\end{table}\n";
}

}  // namespace

std::string render_latex(const Document& document) {
  std::string text = "% Needs \\usepackage{booktabs}.\n";
  for (std::string source : document.sources) {
    // A line break in a path would end the comment.
    std::replace_if(
        source.begin(), source.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    text += fmt::format("% Source: {}\n", source);
  }
  for (std::size_t i = 0; i < document.tables.size(); ++i) {
    text += fmt::format("\n{}", render_table(document, document.tables[i], i + 1));
  }
  return text;
}

}  // namespace rotorquant::evaluation
