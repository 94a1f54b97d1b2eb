#pragma once
// A whole report for people as one HTML page: verdict, comparisons, all rows, figures, provenance.
#include <string>
#include <vector>

#include "evaluation/report/html_page.hpp"
#include "evaluation/report/report_reader.hpp"
#include "evaluation/report/tables.hpp"

namespace rotorquant::evaluation {

// In words, the most telling first: what comparisons found, for each dump; without comparisons, which
// quantizer has the lowest attention KL (without queries: key NMSE) at each width, as a mean that nothing has
// tested.
std::vector<std::string> verdict_in_words(const std::vector<ReportFile>& reports);

// `figures` come from the caller, since they are drawn by an external program.
std::string html_report(const std::vector<ReportFile>& reports, const TableOptions& options,
                        std::vector<HtmlFigure> figures);

}  // namespace rotorquant::evaluation
