#include "evaluation/report/html_page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "evaluation/report/html_style.hpp"

namespace rotorquant::evaluation {
namespace {

// RFC 4648, for pictures inside the page: ids of several inline SVG documents would clash.
std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      word = word << 8 | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      text += j <= count ? digits[word >> (18 - 6 * j) & 63U] : '=';
    }
  }
  return text;
}

std::string better_hint(const Column& column) {
  if (column.better == "lower") return "lower is better";
  if (column.better == "higher") return "higher is better";
  if (column.better == "zero") return "nearest to 0 is best";
  if (column.better == "one") return "nearest to 1 is best";
  return "";
}

std::string head_cell(const Column& column) {
  std::string details;
  for (const std::string& part : {column.unit, better_hint(column)}) {
    if (!part.empty()) details += (details.empty() ? "" : ", ") + html_escaped(part);
  }
  return fmt::format("<th scope=\"col\"{}>{}{}</th>", column.numeric ? " class=\"number\"" : "",
                     html_escaped(column.title),
                     details.empty() ? "" : fmt::format(" <small>{}</small>", details));
}

// A specification breaks between its options on a narrow screen, not within words.
std::string breakable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += html_escaped({&c, 1});
    if (c == ':' || c == ',' || c == '=') out += "<wbr>";
  }
  return out;
}

std::string body_cell(const Column& column, const TableCell& cell, bool first) {
  const char* element = first ? "th" : "td";
  std::string attributes = first ? " scope=\"row\"" : "";
  if (column.numeric) attributes += " class=\"number\"";
  if (cell.value) attributes += fmt::format(" data-value=\"{}\"", *cell.value);
  std::string text = first ? breakable(cell.text) : html_escaped(cell.text);
  if (cell.bold) text = fmt::format("<strong>{}</strong>", text);
  if (!cell.spread_text.empty()) text += fmt::format(" <span class=\"spread\">± {}</span>", cell.spread_text);
  if (cell.interval) {
    text += fmt::format(" <span class=\"spread\">[{}, {}]</span>", cell.interval->low_text,
                        cell.interval->high_text);
  }
  if (!cell.note.empty()) text += fmt::format(" <span class=\"note\">({})</span>", html_escaped(cell.note));
  return fmt::format("<{0}{1}>{2}</{0}>", element, attributes, text);
}

std::string render_table(const Document& document, const Table& table) {
  const std::vector<std::size_t> columns = page_columns(document);
  // A heading, not a caption: one as wide as the table would scroll out of a phone's screen.
  std::string text = table.title.empty() ? "" : fmt::format("<h3>{}</h3>\n", html_escaped(table.title));
  text += "<div class=\"scroll\"><table>\n";
  text += "<thead><tr>";
  for (const std::size_t column : columns) text += head_cell(document.columns[column]);
  text += "</tr></thead>\n<tbody>\n";
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const bool starts_group =
        std::find(table.group_starts.begin(), table.group_starts.end(), i) != table.group_starts.end();
    text += starts_group ? "<tr class=\"group\">" : "<tr>";
    for (const std::size_t column : columns) {
      text += body_cell(document.columns[column], table.rows[i][column], column == columns.front());
    }
    text += "</tr>\n";
  }
  text += "</tbody></table></div>\n";
  if (table.notes.empty()) return text;
  text += "<div class=\"notes\">";
  for (const std::string& note : table.notes) text += fmt::format("<p>{}</p>", html_escaped(note));
  return text + "</div>\n";
}

std::string section(std::string_view heading, const std::string& content) {
  return fmt::format("<section>\n<h2>{}</h2>\n{}</section>\n", html_escaped(heading), content);
}

std::string render_tables(const std::vector<std::pair<std::string, const Document*>>& documents) {
  std::string text;
  for (const auto& [heading, document] : documents) {
    std::string tables;
    for (const Table& table : document->tables) tables += render_table(*document, table);
    text += section(heading, tables);
  }
  return text;
}

std::string render_figure(const HtmlFigure& figure) {
  return fmt::format(
      "<figure><div><img alt=\"{0}\" src=\"data:image/svg+xml;base64,{1}\"></div>"
      "<figcaption>{0}. {2}</figcaption></figure>\n",
      html_escaped(figure.title), base64(figure.svg), html_escaped(figure.caption));
}

std::string render_facts(const HtmlFacts& facts) {
  std::string text = "<dl>\n";
  for (const auto& [term, meaning] : facts) {
    text += fmt::format("<dt>{}</dt><dd>{}</dd>\n", html_escaped(term), html_escaped(meaning));
  }
  return text + "</dl>\n";
}

}  // namespace

std::string html_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

HtmlPage tables_page(const std::string& title, const Document& document) {
  HtmlPage page;
  page.title = title;
  page.tables = {{"Measurements", &document}};
  HtmlFacts facts;
  for (const std::string& source : document.sources) facts.emplace_back("report", source);
  if (!facts.empty()) page.provenance = {{"Reports", facts}};
  return page;
}

std::string render_html(const HtmlPage& page) {
  std::string body = fmt::format("<h1>{}</h1>\n", html_escaped(page.title));
  if (!page.verdict.empty()) {
    body += "<div class=\"verdict\">\n";
    for (const std::string& paragraph : page.verdict)
      body += fmt::format("<p>{}</p>\n", html_escaped(paragraph));
    body += "</div>\n";
  }
  body += render_tables(page.tables);
  if (!page.figures.empty()) {
    std::string figures = "<div class=\"figures\">\n";
    for (const HtmlFigure& figure : page.figures) figures += render_figure(figure);
    body += section("Figures", figures + "</div>\n");
  }
  body += render_tables(page.details);
  if (!page.provenance.empty()) {
    std::string facts;
    for (const auto& [heading, list] : page.provenance) {
      facts += fmt::format("<h3>{}</h3>\n{}", html_escaped(heading), render_facts(list));
    }
    body += section("Where the numbers come from", facts);
  }
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n"
      "<style>{}</style>\n</head>\n<body>\n{}<script>{}</script>\n</body>\n</html>\n",
      html_escaped(page.title), html_style, body, html_script);
}

}  // namespace rotorquant::evaluation
