#include "evaluation/report/table_model.hpp"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

#include "evaluation/report/html_page.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr std::array<std::pair<std::string_view, TableFormat>, 5> formats{
    {{"latex", TableFormat::latex},
     {"markdown", TableFormat::markdown},
     {"csv", TableFormat::csv},
     {"html", TableFormat::html},
     {"text", TableFormat::text}}};

}  // namespace

Column column(const std::string& name, bool numeric, Shown shown) {
  Column made;
  made.name = name;
  made.title = name;
  made.numeric = numeric;
  made.shown = shown;
  return made;
}

std::string metric_heading(const Column& column) {
  std::vector<std::string> details;
  if (!column.unit.empty()) details.push_back(column.unit);
  if (column.better == "lower" || column.better == "higher") details.push_back(column.better + " is better");
  if (column.better == "zero" || column.better == "one")
    details.push_back("nearest to " + column.better + " is best");
  return details.empty() ? column.title : fmt::format("{} ({})", column.title, fmt::join(details, ", "));
}

std::vector<std::size_t> page_columns(const Document& document) {
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < document.columns.size(); ++i) {
    if (document.columns[i].shown != Shown::csv_only) indices.push_back(i);
  }
  return indices;
}

TableFormat table_format(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [known, format] : formats) {
    if (name == known) return format;
    names.emplace_back(known);
  }
  throw UsageError(fmt::format("unknown table format '{}'; expected {}{}", name, fmt::join(names, ", "),
                               nearest_hint(name, names)));
}

std::string render(const Document& document, TableFormat format) {
  switch (format) {
    case TableFormat::text:
      return render_text(document);
    case TableFormat::markdown:
      return render_markdown(document);
    case TableFormat::latex:
      return render_latex(document);
    case TableFormat::csv:
      return render_csv(document);
    case TableFormat::html:
      return render_html(tables_page("Tables", document));
  }
  return "";
}

}  // namespace rotorquant::evaluation
