#pragma once
// The JSON report of a benchmark: schema "rotorquant-bench/1", specified by configs/bench.schema.json.
//
//   schema, meta, rows, skipped
//
// Speeds are fields whose names begin with "time/" or "throughput/", as in reports of sweeps.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "evaluation/bench/cpu_operations.hpp"
#include "evaluation/bench/measure.hpp"
#include "evaluation/report/provenance.hpp"
#include "evaluation/report/report_reader.hpp"
#include "evaluation/report/table_model.hpp"

namespace rotorquant::evaluation {

struct BenchResult {
  BenchGroup group;
  std::vector<Measurement> measurements;  // of group.operations
};

nlohmann::ordered_json bench_report(const RunInfo& run, const std::vector<BenchResult>& results,
                                    const std::vector<SkippedOperation>& skipped, double seconds);

// One table for each shape, a line for each operation.
Document bench_tables(const std::vector<ReportFile>& reports);
// One table for all shapes that differ in their number of vectors alone: a line for each operation, a column
// for each number.
Document latency_tables(const std::vector<ReportFile>& reports);

}  // namespace rotorquant::evaluation
