#pragma once
// Tables from reports alone. Every number can be traced: the CSV names the report file and the element of its
// `rows`, the other formats name the files, their revision and the dumps.
#include <string>
#include <vector>

#include "evaluation/report/report_reader.hpp"
#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {

enum class TableLayout {
  rows,          // a line per quantizer and bit width, a column per metric; a table per dump
  pivot,         // quantizers down, bit widths across; a table per dump and metric
  compare,       // a line per comparison with its verdict
  equal_bits,    // quantizers down, equal stored bits across
  stored,        // what rows store, kind by kind
  correlations,  // which metric predicts attention
};

// "rows", "pivot", "compare", "equal-bits", "stored" or "correlations"; anything else is a UsageError.
TableLayout table_layout(const std::string& name);

struct TableOptions {
  TableLayout layout = TableLayout::rows;
  // Tags; empty for those of the default list that the reports hold. size/bits_per_value is one too.
  std::vector<std::string> metrics;
  // Print the best mean of each bit width in bold, unless a comparison says that it cannot be ranked.
  bool bold_best = false;
  // Stored bits a value of the layout equal_bits; empty for those of the baseline's rows.
  std::vector<double> sizes;
};

Document build_tables(const std::vector<ReportFile>& reports, const TableOptions& options);

}  // namespace rotorquant::evaluation
