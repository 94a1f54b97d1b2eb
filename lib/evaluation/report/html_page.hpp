#pragma once
// One self-contained HTML page: no script, style, font or picture from elsewhere. Without JavaScript, on a
// phone and in print it says the same; with it, a click on a column's head sorts the table.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {

struct HtmlFigure {
  std::string title;
  std::string caption;
  std::string svg;  // a whole SVG document
};

// A list of terms and what they stand for.
using HtmlFacts = std::vector<std::pair<std::string, std::string>>;

// In the order of the page.
struct HtmlPage {
  std::string title;
  std::vector<std::string> verdict;                             // paragraphs; the first is the one to read
  std::vector<std::pair<std::string, const Document*>> tables;  // heading, tables under it
  std::vector<HtmlFigure> figures;
  std::vector<std::pair<std::string, const Document*>> details;  // tables that come after the figures
  std::vector<std::pair<std::string, HtmlFacts>> provenance;     // heading, facts
};

// The five characters that HTML reads as markup, as entities.
std::string html_escaped(std::string_view text);

// A page of tables and their sources alone; `document` must outlive it.
HtmlPage tables_page(const std::string& title, const Document& document);

std::string render_html(const HtmlPage& page);

}  // namespace rotorquant::evaluation
