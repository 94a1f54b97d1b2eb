#pragma once
// Which cheap metric predicts attention: the rank correlations that reports hold, as a table per dump.
#include <vector>

#include "evaluation/report/report_reader.hpp"
#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {

// Metrics down, targets across, over all rows and within each width. Reports without rank correlations are an
// Error.
Document correlation_document(const std::vector<ReportFile>& reports);

}  // namespace rotorquant::evaluation
