#pragma once
// The rows of several reports sorted into one block per dump; what the table layouts share.
#include <cstdint>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "evaluation/report/number_format.hpp"
#include "evaluation/report/report_reader.hpp"
#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {

struct SourceRow {
  const ReportFile* report;
  std::size_t report_index;
  std::size_t row;  // index into the report's `rows`
  const nlohmann::ordered_json* json;
  std::string quantizer;
  std::string device;
  std::int64_t bits;
};

// One dump, whichever reports measured it: dumps are the same when their sha256 is.
struct Block {
  std::string path;
  std::string sha256;
  std::string title;
  bool isotropic = false;
  std::vector<SourceRow> rows;  // ascending bits, then in report order
  // (metric, bits, quantizer) of both sides of every comparison without a winner.
  std::set<std::tuple<std::string, std::int64_t, std::string>> unranked;
};

// A dump in words: model, file, layers, heads, tokens.
std::string dataset_title(const nlohmann::ordered_json& dataset);

// A report whose content does not fit its schema is an Error that names it.
std::vector<Block> collect_blocks(const std::vector<ReportFile>& reports);

// A metric as a table column.
struct MetricColumn {
  std::string tag;
  Column column;  // its unit includes the scale of `format`
  NumberFormat format;
};

// The metrics asked for; or else those that the first report's configuration names, or the usual ones, as far
// as some row holds them. An unknown tag is a UsageError that names the nearest one; a tag that no row holds
// is an Error.
std::vector<MetricColumn> choose_metrics(const std::vector<ReportFile>& reports,
                                         const std::vector<Block>& blocks,
                                         const std::vector<std::string>& tags);

// The cell of one metric of one row; without text when the row lacks it.
TableCell metric_cell(const SourceRow& row, const MetricColumn& metric);
TableCell worst_cell(const SourceRow& row, const MetricColumn& metric);
TableCell text_cell(std::string text);
TableCell integer_cell(std::int64_t value);

// Sets `bold` on the best of `cells`, which stand for `rows` of one block and one bit width.
void mark_best(const Block& block, const MetricColumn& metric, const std::vector<const SourceRow*>& rows,
               const std::vector<TableCell*>& cells);

// "mean ± standard deviation over 10 seeds", for the seeds behind `rows`; empty when no row has a spread.
std::string spread_note(const std::vector<SourceRow>& rows, const std::vector<MetricColumn>& metrics);
// What sinks and shifts of these rows take beside bits/value; empty when nothing.
std::string side_note(const std::vector<SourceRow>& rows);
// Sentences about cells that lack one of the metrics.
std::vector<std::string> missing_notes(const std::vector<SourceRow>& rows,
                                       const std::vector<MetricColumn>& metrics);

// One line per report: file, schema, version, revision, dumps.
std::vector<std::string> source_lines(const std::vector<ReportFile>& reports);

}  // namespace rotorquant::evaluation
