#pragma once
// Tables about size: what every row stores, kind by kind, and all methods at equal stored bits.
#include <vector>

#include "evaluation/report/report_reader.hpp"
#include "evaluation/report/table_model.hpp"
#include "evaluation/report/tables.hpp"

namespace rotorquant::evaluation {

// A line per row: stored bits a value by kind (index, norm, sign, ..., padding) of keys and values together,
// their sum, side data by name (sinks, window, ...) at the length of the dump, and the sum of everything. A
// table per dump.
Document stored_document(const std::vector<ReportFile>& reports);

// Quantizers down, stored bits a value (side data included) across; a table per dump and metric. Between its
// measured widths a quantizer's curve is interpolated (statistics/rate_curve.hpp); where it has none it is
// not extrapolated. A last column names the widths at which no other row stores as little and loses as
// little. Errors: sizes that no quantizer's curve reaches.
Document equal_bits_document(const std::vector<ReportFile>& reports, const TableOptions& options);

}  // namespace rotorquant::evaluation
