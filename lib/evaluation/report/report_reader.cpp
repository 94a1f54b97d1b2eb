#include "evaluation/report/report_reader.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "evaluation/report/report.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

std::string read_text(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw Error(fmt::format("cannot read report '{}': it is a directory", path));
  }
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    throw Error(fmt::format("cannot read report '{}': {}", path,
                            errno != 0 ? std::strerror(errno) : "unknown reason"));
  }
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

bool is_bench_report(const ReportFile& report) {
  return report.json.at("schema") == bench_schema;
}

ReportFile read_report(const std::string& path) {
  ReportFile file{path, {}};
  try {
    file.json = Json::parse(read_text(path));
  } catch (const Json::parse_error& error) {
    throw Error(fmt::format("'{}' is not valid JSON: error at byte {}", path, error.byte));
  }
  const Json& json = file.json;
  if (!json.is_object() || !json.contains("schema") || !json["schema"].is_string()) {
    throw Error(fmt::format("'{}' is not a report: it has no schema; expected \"{}\"", path, report_schema));
  }
  if (json["schema"] != report_schema && json["schema"] != bench_schema) {
    throw Error(fmt::format("'{}' has schema \"{}\"; this version reads \"{}\" and \"{}\"", path,
                            json["schema"].get<std::string>(), report_schema, bench_schema));
  }
  for (const char* member : {"meta", "datasets", "rows"}) {
    if (is_bench_report(file) && std::strcmp(member, "datasets") == 0) continue;
    if (!json.contains(member)) throw Error(fmt::format("report '{}' has no '{}'", path, member));
  }
  return file;
}

std::optional<RowMetric> row_metric(const Json& row, const std::string& tag) {
  RowMetric metric;
  if (tag == stored_size_tag) {
    metric.mean = row.at("bits_per_value").get<double>();
    return metric;
  }
  const Json& metrics = row.at("metrics");
  const auto found = metrics.find(tag);
  if (found == metrics.end()) return std::nullopt;
  metric.mean = found->at("mean").get<double>();
  if (found->at("n").get<std::int64_t>() > 1) metric.std = found->at("std").get<double>();
  if (const auto worst = found->find("worst"); worst != found->end()) {
    metric.worst = worst->at("value").get<double>();
    metric.worst_place =
        fmt::format("L{} H{}", worst->at("layer").get<std::int64_t>(), worst->at("head").get<std::int64_t>());
  }
  return metric;
}

}  // namespace rotorquant::evaluation
