#pragma once
// The table of a report's comparisons: who against whom, by how much, how sure, and the verdict in words.
#include <vector>

#include "evaluation/report/report_reader.hpp"
#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {

// One table per dump, a line per comparison; the sentences stand below. Reports without comparisons are an
// Error.
Document compare_document(const std::vector<ReportFile>& reports);

}  // namespace rotorquant::evaluation
