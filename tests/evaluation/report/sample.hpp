#pragma once
// A sweep small enough to aggregate by hand, and the report of it, for the tests of this folder.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/report/report.hpp"
#include "evaluation/report/report_reader.hpp"
#include "evaluation/sweep/results.hpp"

namespace rotorquant::evaluation::testing {

// A cell whose metrics are all missing but the named ones.
inline Cell make_cell(std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t kv_head,
                      const std::vector<std::pair<std::string, double>>& metrics) {
  Cell cell;
  cell.setting = setting;
  cell.seed = seed;
  cell.layer = layer;
  cell.kv_head = kv_head;
  cell.metrics.assign(metric_registry().size(), std::numeric_limits<double>::quiet_NaN());
  for (const auto& [tag, value] : metrics) cell.metrics[metric_index(tag)] = value;
  cell.encode_seconds = 0.25;
  cell.decode_seconds = 0.125;
  return cell;
}

inline Setting make_setting(const std::string& label, int bits, std::int64_t key_norm_bits) {
  Setting setting;
  setting.label = label;
  setting.keys = label;
  setting.values = "turboquant";
  setting.bits = bits;
  setting.key_size = {{{"index", 64 * bits}, {"norm", key_norm_bits}}, 64 * bits + key_norm_bits, 0.0, 64};
  setting.key_size.bits_per_value = static_cast<double>(setting.key_size.bits_per_vector) / 64.0;
  setting.value_size = {{{"index", 64 * bits}, {"norm", 16}}, 64 * bits + 16, bits + 0.25, 4096};
  return setting;
}

// One dump with layers 3 and 5 of two heads, two settings, seeds 0 and 1. Of the first setting
//   key/nmse of (layer, head):   (3,0)  (3,1)  (5,0)  (5,1)     mean
//                     seed 0:     0.1    0.2    0.3    0.4      0.25
//                     seed 1:     0.1    0.4    0.3    0.4      0.30
// and key/nmse of the second is half of that. attention/kl exists in layer 5 only.
inline SweepResult sample_sweep() {
  SweepResult result;
  DatasetSummary dataset;
  dataset.path = "kv/tiny_dump.h5";
  dataset.sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
  dataset.model = "Tiny-2L";
  dataset.source = "made by hand";
  dataset.layers = {3, 5};
  dataset.num_query_heads = 4;
  dataset.num_kv_heads = 2;
  dataset.head_dim = 64;
  dataset.value_dim = 64;
  dataset.num_tokens = 100;
  dataset.num_queries = 100;
  dataset.eigenvalue_spread_ratio = 12.5;
  dataset.kurtosis_ratio = std::numeric_limits<double>::quiet_NaN();
  result.datasets = {dataset};
  result.settings = {make_setting("rotorquant:tail=pad", 3, 32), make_setting("turboquant", 3, 16)};
  result.seeds = {0, 1};
  for (std::int64_t setting = 0; setting < 2; ++setting) {
    const double factor = setting == 0 ? 1.0 : 0.5;
    for (std::uint64_t seed = 0; seed < 2; ++seed) {
      const double varying = seed == 0 ? 0.2 : 0.4;
      result.cells.push_back(make_cell(setting, seed, 3, 0, {{"key/nmse", 0.1 * factor}, {"ip/bias", -0.5}}));
      result.cells.push_back(
          make_cell(setting, seed, 3, 1, {{"key/nmse", varying * factor}, {"ip/bias", 0.25}}));
      result.cells.push_back(
          make_cell(setting, seed, 5, 0,
                    {{"key/nmse", 0.3 * factor}, {"ip/bias", 0.0}, {"attention/kl", 0.02 * factor}}));
      result.cells.push_back(
          make_cell(setting, seed, 5, 1,
                    {{"key/nmse", 0.4 * factor}, {"ip/bias", 0.0}, {"attention/kl", 0.04 * factor}}));
    }
  }
  result.skipped = {{"kivi at 3 bits", "head_dim 64 is not a multiple of 48"}};
  result.seconds = 1.5;
  return result;
}

inline RunInfo sample_run() {
  RunInfo run;
  run.argv = {"build/rotorquant", "sweep", "kv/tiny_dump.h5", "--threads", "2", "-o", "report.json"};
  run.config = {{"bits", {3}}};
  run.threads = 2;
  return run;
}

// The report of the sample with everything that depends on the build and the machine fixed.
inline ReportFile sample_report(const std::string& path = "runs/report.json") {
  ReportFile file{path, build_report(sample_run(), sample_sweep())};
  file.json["meta"]["version"] = "1.2.3";
  file.json["meta"]["git"] = {{"revision", "89abcdef0123456789abcdef0123456789abcdef"}, {"dirty", false}};
  return file;
}

}  // namespace rotorquant::evaluation::testing
