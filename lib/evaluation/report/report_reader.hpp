#pragma once
// Reports back from their files, and the view of them that tables need.
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace rotorquant::evaluation {

struct ReportFile {
  std::string path;  // as given; empty for a report that was just computed
  nlohmann::ordered_json json;
};

inline constexpr char bench_schema[] = "rotorquant-bench/1";

// Whether the report is a benchmark's and not a sweep's.
bool is_bench_report(const ReportFile& report);

// Reads and checks the schema name; an Error names the file and what is wrong. "-" is standard input.
ReportFile read_report(const std::string& path);

// A number of a row: one metric over seeds.
struct RowMetric {
  double mean = 0.0;
  std::optional<double> std;  // none when a single seed, or no seed at all, is behind it
  std::optional<double> worst;
  std::string worst_place;  // "L11 H2"
};

// `row` is an element of a report's `rows`. The tag size/bits_per_value stands for the stored size.
std::optional<RowMetric> row_metric(const nlohmann::ordered_json& row, const std::string& tag);

inline constexpr char stored_size_tag[] = "size/bits_per_value";

}  // namespace rotorquant::evaluation
