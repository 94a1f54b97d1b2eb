#include "evaluation/bench/bench_report.hpp"

#include <cmath>

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

Json row_json(const BenchShape& shape, const BenchOperation& operation, const Measurement& measured) {
  const double seconds = measured.seconds.median;
  Json row{{"operation", operation.name},
           {"quantizer", operation.quantizer.empty() ? Json() : Json(operation.quantizer)},
           {"dim", shape.dim},
           {"bits", shape.bits},
           {"vectors", shape.vectors},
           {"type", rotorquant::element_type_name(shape.type)},
           {"device", shape.device},
           {"threads", shape.threads},
           {"residence", shape.residence},
           {"bytes_read", operation.bytes_read},
           {"bytes_written", operation.bytes_written},
           {"time/seconds",
            {{"median", seconds},
             {"lower_quartile", measured.seconds.lower},
             {"upper_quartile", measured.seconds.upper},
             {"samples", measured.samples},
             {"runs_per_sample", measured.repetitions}}},
           {"throughput/vectors", static_cast<double>(shape.vectors) / seconds},
           {"throughput/bytes", static_cast<double>(operation.bytes()) / seconds}};
  if (std::isfinite(measured.fraction_of_copy))
    row["throughput/fraction_of_copy"] = measured.fraction_of_copy;
  if (std::isfinite(measured.fraction_of_read))
    row["throughput/fraction_of_read"] = measured.fraction_of_read;
  row["throughput/over"] = Json::object();
  for (const auto& [baseline, ratio] : measured.over) row["throughput/over"][baseline] = ratio;
  return row;
}

}  // namespace

Json bench_report(const RunInfo& run, const std::vector<BenchResult>& results,
                  const std::vector<SkippedOperation>& skipped, double seconds) {
  Json report;
  report["schema"] = bench_schema;
  report["meta"] = provenance_json(run);
  report["meta"]["schema"] = bench_schema;
  report["meta"]["time"] = run_time_json(run, seconds);
  report["rows"] = Json::array();
  for (const BenchResult& result : results) {
    for (std::size_t i = 0; i < result.measurements.size(); ++i) {
      report["rows"].push_back(
          row_json(result.group.shape, result.group.operations[i], result.measurements[i]));
    }
  }
  report["skipped"] = Json::array();
  for (const SkippedOperation& entry : skipped)
    report["skipped"].push_back({{"what", entry.what}, {"why", entry.why}});
  return report;
}

}  // namespace rotorquant::evaluation
