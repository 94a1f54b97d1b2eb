#include "evaluation/report/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string_view>

#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/report/aggregate.hpp"
#include "evaluation/report/atomic_file.hpp"
#include "evaluation/report/report_reader.hpp"
#include "evaluation/statistics/rank_correlation.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

const char* better_name(Better better) {
  switch (better) {
    case Better::lower:
      return "lower";
    case Better::higher:
      return "higher";
    case Better::zero:
      return "zero";
    case Better::one:
      return "one";
  }
  return "";
}

// What the tags of rows mean, so that a report can be read without the program that wrote it.
Json metrics_json() {
  Json metrics = Json::object();
  for (const MetricInfo& info : metric_registry()) {
    metrics[info.tag] = {{"better", better_name(info.better)}, {"unit", info.unit}};
  }
  for (const char* tag : {"theory/nmse", "theory/nmse_bound"})
    metrics[tag] = {{"better", "lower"}, {"unit", "1"}};
  for (const char* operation : {"encode", "decode"}) {
    metrics[std::string("time/") + operation] = {{"better", "lower"}, {"unit", "s"}};
  }
  for (const char* operation : {"encode", "decode"}) {
    metrics[std::string("throughput/") + operation] = {{"better", "higher"}, {"unit", "vectors/s"}};
  }
  return metrics;
}

// JSON has no NaN: a number that could not be determined is absent.
void put_if_finite(Json& object, const char* key, double value) {
  if (std::isfinite(value)) object[key] = value;
}

Json dataset_json(const DatasetSummary& dataset) {
  Json isotropy;
  isotropy["isotropic"] = dataset.isotropic;
  put_if_finite(isotropy, "eigenvalue_spread_ratio", dataset.eigenvalue_spread_ratio);
  put_if_finite(isotropy, "kurtosis_ratio", dataset.kurtosis_ratio);
  return {{"path", dataset.path},
          {"sha256", dataset.sha256},
          {"model", dataset.model},
          {"source", dataset.source},
          {"layers", dataset.layers},
          {"num_query_heads", dataset.num_query_heads},
          {"num_kv_heads", dataset.num_kv_heads},
          {"head_dim", dataset.head_dim},
          {"value_dim", dataset.value_dim},
          {"num_tokens", dataset.num_tokens},
          {"num_queries", dataset.num_queries},
          {"isotropy", isotropy}};
}

Json stored_json(const StoredSize& size) {
  Json fields = Json::object();
  for (const auto& [kind, bits] : size.fields) fields[kind] = bits;
  return {{"bits_per_value", size.bits_per_value},
          {"bits_per_vector", size.bits_per_vector},
          {"fields", fields},
          {"model_floats", size.model_floats}};
}

Json summary_json(const MetricSummary& summary) {
  Json json{{"mean", summary.mean}, {"std", summary.std}, {"min", summary.min}, {"max", summary.max}};
  if (summary.worst) {
    json["worst"] = {
        {"layer", summary.worst->layer}, {"head", summary.worst->kv_head}, {"value", summary.worst->value}};
  }
  json["n"] = summary.n;
  if (summary.missing_cells > 0) json["missing_cells"] = summary.missing_cells;
  return json;
}

const Setting& setting_of(const SweepResult& result, std::int64_t setting) {
  return result.settings.at(static_cast<std::size_t>(setting));
}

// What a calibrated row was fitted to, and whether this very dump was among it.
Json fit_json(const SweepResult& result, const DatasetSummary& dataset) {
  Json sources = Json::array();
  bool in_sample = false;
  for (const FitSource& source : result.fit) {
    sources.push_back({{"name", source.name}, {"sha256", source.sha256}});
    in_sample = in_sample || source.sha256 == dataset.sha256;
  }
  return {{"sources", sources}, {"in_sample", in_sample}};
}

Json row_json(const Row& row, const SweepResult& result, const std::string& device) {
  const Setting& setting = setting_of(result, row.setting);
  Json metrics = Json::object();
  for (const MetricSummary& summary : row.metrics) metrics[summary.tag] = summary_json(summary);
  for (const MetricSummary& summary : row.timings) metrics[summary.tag] = summary_json(summary);
  Json side = Json::object();
  for (const auto& [name, bits] : row.side) side[name] = bits;
  Json json{
      {"dataset", row.dataset},
      {"quantizer", setting.label},
      {"keys", setting.keys},
      {"values", setting.values},
      {"bits", setting.bits},
      {"device", device},
      {"bits_per_value", row.bits_per_value},
      {"side_bits_per_value", row.side_bits_per_value},
      {"side", side},
      {"stored", {{"keys", stored_json(setting.key_size)}, {"values", stored_json(setting.value_size)}}},
      {"metrics", metrics}};
  Json by_layer = Json::object();
  for (const auto& [tag, means] : row.by_layer) {
    by_layer[tag] = Json::array();
    for (const double mean : means) by_layer[tag].push_back(std::isfinite(mean) ? Json(mean) : Json(nullptr));
  }
  json["by_layer"] = std::move(by_layer);
  if (setting.calibrated) {
    json["fit"] = fit_json(result, result.datasets.at(static_cast<std::size_t>(row.dataset)));
  }
  return json;
}

Json cell_json(const Cell& cell, const Setting& setting) {
  Json metrics = Json::object();
  const std::vector<MetricInfo>& registry = metric_registry();
  for (std::size_t i = 0; i < registry.size(); ++i) {
    put_if_finite(metrics, registry[i].tag.c_str(), cell.metrics[i]);
  }
  metrics["time/encode"] = cell.encode_seconds;
  metrics["time/decode"] = cell.decode_seconds;
  return {{"dataset", cell.dataset}, {"quantizer", setting.label}, {"bits", setting.bits},
          {"seed", cell.seed},       {"layer", cell.layer},        {"head", cell.kv_head},
          {"metrics", metrics}};
}

Json correlations_json(const std::vector<RankCorrelation>& correlations) {
  const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  Json list = Json::array();
  for (const RankCorrelation& found : correlations) {
    list.push_back({{"dataset", found.dataset},
                    {"metric", found.metric},
                    {"target", found.target},
                    {"overall", number(found.overall)},
                    {"within", number(found.within)},
                    {"rows", found.rows}});
  }
  return list;
}

bool is_time_field(std::string_view name) {
  return name.starts_with("time/") || name.starts_with("throughput/");
}

Json without_time_fields(const Json& json) {
  if (json.is_array()) {
    Json kept = Json::array();
    for (const Json& element : json) kept.push_back(without_time_fields(element));
    return kept;
  }
  if (!json.is_object()) return json;
  Json kept = Json::object();
  for (const auto& [name, value] : json.items()) {
    if (!is_time_field(name)) kept[name] = without_time_fields(value);
  }
  return kept;
}

// A path need not be UTF-8, which JSON demands: foreign bytes become U+FFFD.
std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

nlohmann::ordered_json build_report(const RunInfo& run, const SweepResult& result, const Json& comparisons,
                                    const ReportOptions& options) {
  const std::vector<Row> rows = aggregate(result);
  Json report;
  report["schema"] = report_schema;
  report["meta"] = provenance_json(run);
  report["meta"]["seeds"] = result.seeds;
  report["meta"]["metrics"] = metrics_json();
  report["meta"]["time"] = run_time_json(run, result.seconds);
  report["datasets"] = Json::array();
  for (const DatasetSummary& dataset : result.datasets) report["datasets"].push_back(dataset_json(dataset));
  report["rows"] = Json::array();
  for (const Row& row : rows) report["rows"].push_back(row_json(row, result, run.device));
  if (options.cells) {
    report["cells"] = Json::array();
    for (const Cell& cell : result.cells)
      report["cells"].push_back(cell_json(cell, setting_of(result, cell.setting)));
  }
  if (!comparisons.empty()) report["comparisons"] = comparisons;
  const Json correlations = correlations_json(rank_correlations(result, rows));
  if (!correlations.empty()) report["correlations"] = correlations;
  report["skipped"] = Json::array();
  for (const Skipped& skipped : result.skipped) {
    report["skipped"].push_back({{"what", skipped.what}, {"why", skipped.why}});
  }
  return report;
}

void check_table_metric(const std::string& tag) {
  std::vector<std::string> known = {stored_size_tag};
  const Json metrics = metrics_json();
  for (const auto& [name, meaning] : metrics.items()) known.push_back(name);
  if (std::find(known.begin(), known.end(), tag) != known.end()) return;
  throw UsageError(
      fmt::format("unknown metric '{}'{}; valid: {}", tag, nearest_hint(tag, known), fmt::join(known, ", ")));
}

nlohmann::ordered_json strip_time_fields(const Json& report) {
  Json stripped = without_time_fields(report);
  if (const auto meta = stripped.find("meta"); meta != stripped.end() && meta->is_object())
    meta->erase("time");
  return stripped;
}

std::string report_text(const Json& report) {
  return dump(report, 2) + "\n";
}

void write_report(const std::string& path, const Json& report) {
  write_file_atomically(path, report_text(report));
}

void write_cells(const std::string& path, const SweepResult& result) {
  write_file_atomically(path, [&](std::ostream& stream) {
    for (const Cell& cell : result.cells) {
      stream << dump(cell_json(cell, setting_of(result, cell.setting)), -1) << '\n';
    }
  });
}

}  // namespace rotorquant::evaluation
