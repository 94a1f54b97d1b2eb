#pragma once
// The JSON report of a sweep: schema "rotorquant-report/1", specified by configs/report.schema.json.
//
//   schema, meta, datasets, rows, [cells], [comparisons], [correlations], skipped
//
// Numbers are plain JSON numbers in full (round-trip) precision and the order of fields is fixed. Everything
// that may differ between two runs of one experiment on one machine lies in the time fields: `meta.time`
// (start, duration, number of threads, the command as typed with its output paths) and every member whose
// name begins with "time/" or "throughput/".
#include <nlohmann/json.hpp>
#include <string>

#include "evaluation/report/provenance.hpp"
#include "evaluation/sweep/results.hpp"

namespace rotorquant::evaluation {

inline constexpr char report_schema[] = "rotorquant-report/1";

struct ReportOptions {
  bool cells = false;  // include one entry per seed, layer and KV head
};

// `comparisons` is an array, empty when nothing was compared (the member is then left out).
nlohmann::ordered_json build_report(
    const RunInfo& run, const SweepResult& result,
    const nlohmann::ordered_json& comparisons = nlohmann::ordered_json::array(),
    const ReportOptions& options = {});

// Refuses, as a UsageError that names the nearest, a metric that no report could hold: neither in
// metric_registry() nor one of those that come from a setting alone (stored size, theory).
void check_table_metric(const std::string& tag);

// The report without its time fields.
nlohmann::ordered_json strip_time_fields(const nlohmann::ordered_json& report);

// Text of a report, as files hold it: indented, with a newline at the end.
std::string report_text(const nlohmann::ordered_json& report);

// Writes atomically; "-" is standard output.
void write_report(const std::string& path, const nlohmann::ordered_json& report);

// One line per cell, each an object like those in a report's `cells`; atomically.
void write_cells(const std::string& path, const SweepResult& result);

}  // namespace rotorquant::evaluation
