#include "evaluation/report/table_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/report/aggregate.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 5> default_metrics{"key/nmse", "value/nmse", "attention/kl",
                                                     "attention/top1", "output/nmse"};

constexpr std::size_t sha256_prefix = 12;    // hex digits shown
constexpr std::size_t revision_prefix = 12;  // hex digits shown

// What people call a metric; others go by their tag.
const std::map<std::string, std::string>& metric_titles() {
  static const std::map<std::string, std::string> titles{
      {stored_size_tag, "bits/value"},
      {"key/mse", "key MSE"},
      {"key/nmse", "key NMSE"},
      {"key/cosine", "key cosine"},
      {"value/mse", "value MSE"},
      {"value/nmse", "value NMSE"},
      {"ip/bias", "IP bias"},
      {"ip/slope", "IP slope"},
      {"ip/rmse", "IP RMSE"},
      {"ip/correlation", "IP correlation"},
      {"score/rmse", "score RMSE"},
      {"attention/kl", "attention KL"},
      {"attention/top1", "top-1"},
      {"attention/top8", "top-8"},
      {"output/nmse", "output NMSE"},
      {"output/nmse_keys_only", "output NMSE, keys only"},
      {"output/nmse_values_only", "output NMSE, values only"},
      {"time/encode", "encode"},
      {"time/decode", "decode"},
      {"throughput/encode", "encode"},
      {"throughput/decode", "decode"}};
  return titles;
}

Block& block_of(std::vector<Block>& blocks, const Json& dataset) {
  const std::string path = dataset.at("path").get<std::string>();
  const std::string sha256 = dataset.at("sha256").get<std::string>();
  const auto known = std::find_if(blocks.begin(), blocks.end(), [&](const Block& block) {
    return sha256.empty() ? block.sha256.empty() && block.path == path : block.sha256 == sha256;
  });
  Block& block = known != blocks.end() ? *known : blocks.emplace_back();
  if (known == blocks.end() || block.path.empty()) {
    block.path = path;
    block.sha256 = sha256;
    block.title = dataset_title(dataset);
  }
  block.isotropic = block.isotropic || dataset.at("isotropy").at("isotropic").get<bool>();
  return block;
}

// Marked wherever it is shown when its transforms were fitted to the very dump of the row.
std::string quantizer_name(const Json& row) {
  const auto fit = row.find("fit");
  const bool in_sample = fit != row.end() && fit->at("in_sample").get<bool>();
  return row.at("quantizer").get<std::string>() + (in_sample ? " (fitted on this dump)" : "");
}

void collect_report(const ReportFile& report, std::size_t report_index, std::vector<Block>& blocks) {
  const Json& datasets = report.json.at("datasets");
  const Json& rows = report.json.at("rows");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Json& row = rows[i];
    Block& block = block_of(blocks, datasets.at(row.at("dataset").get<std::size_t>()));
    block.rows.push_back({&report, report_index, i, &row, quantizer_name(row),
                          row.at("device").get<std::string>(), row.at("bits").get<std::int64_t>()});
  }
  const auto comparisons = report.json.find("comparisons");
  if (comparisons == report.json.end()) return;
  for (const Json& comparison : *comparisons) {
    const std::string verdict = comparison.at("verdict").get<std::string>();
    if (verdict != "no_ranking" && verdict != "no_significant_difference") continue;
    Block& block = block_of(blocks, datasets.at(comparison.at("dataset").get<std::size_t>()));
    for (const char* side : {"candidate", "baseline"}) {
      block.unranked.emplace(comparison.at("metric").get<std::string>(),
                             comparison.at("bits").get<std::int64_t>(),
                             comparison.at(side).get<std::string>());
    }
  }
}

std::string scaled_unit(const std::string& unit, double scale) {
  if (scale <= 1.0) return unit == "1" ? "" : unit;
  return fmt::format("10^{}{}", std::lround(std::log10(scale)),
                     unit == "1" || unit.empty() ? "" : fmt::format(" {}", unit));
}

MetricColumn metric_column(const std::string& tag, const Json& meanings, const std::vector<Block>& blocks) {
  MetricColumn metric;
  metric.tag = tag;
  metric.column.name = tag;
  metric.column.numeric = true;
  const auto title = metric_titles().find(tag);
  metric.column.title = title != metric_titles().end() ? title->second : tag;
  std::string unit = tag == stored_size_tag ? "bits" : "1";
  if (const auto meaning = meanings.find(tag); meaning != meanings.end()) {
    metric.column.better = meaning->at("better").get<std::string>();
    unit = meaning->at("unit").get<std::string>();
  } else if (tag == stored_size_tag) {
    metric.column.better = "lower";
  }
  std::vector<double> shown;
  for (const Block& block : blocks) {
    for (const SourceRow& row : block.rows) {
      if (const auto value = row_metric(*row.json, tag)) {
        shown.push_back(value->mean);
        if (metric.column.better == "zero" && value->std) shown.push_back(*value->std);
      }
    }
  }
  NumberKind kind = NumberKind::magnitude;
  if (metric.column.better == "zero") kind = NumberKind::near_zero;
  const bool ratio_like =
      std::all_of(shown.begin(), shown.end(), [](double value) { return std::abs(value) < 2.0; });
  if ((metric.column.better == "higher" || metric.column.better == "one") && ratio_like)
    kind = NumberKind::near_one;
  metric.format = tag == stored_size_tag ? choose_size_format(shown) : choose_format(shown, kind);
  metric.column.unit = scaled_unit(tag == stored_size_tag ? "" : unit, metric.format.scale);
  return metric;
}

bool some_row_has(const std::vector<Block>& blocks, const std::string& tag) {
  return std::any_of(blocks.begin(), blocks.end(), [&](const Block& block) {
    return std::any_of(block.rows.begin(), block.rows.end(),
                       [&](const SourceRow& row) { return row_metric(*row.json, tag).has_value(); });
  });
}

Better better_of(const std::string& name) {
  if (name == "higher") return Better::higher;
  if (name == "zero") return Better::zero;
  if (name == "one") return Better::one;
  return Better::lower;
}

}  // namespace

std::string dataset_title(const Json& dataset) {
  const std::string file = std::filesystem::path(dataset.at("path").get<std::string>()).filename().string();
  const std::string model = dataset.at("model").get<std::string>();
  return fmt::format(
      "{}{}: {} layers, {} KV heads, {} query heads, head dim {}, {} tokens",
      model.empty() ? "" : fmt::format("{}, ", model), file, dataset.at("layers").size(),
      dataset.at("num_kv_heads").get<std::int64_t>(), dataset.at("num_query_heads").get<std::int64_t>(),
      dataset.at("head_dim").get<std::int64_t>(), dataset.at("num_tokens").get<std::int64_t>());
}

std::vector<Block> collect_blocks(const std::vector<ReportFile>& reports) {
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    try {
      collect_report(reports[i], i, blocks);
    } catch (const Json::exception& error) {
      throw Error(fmt::format("report '{}' does not follow its schema: {}", reports[i].path, error.what()));
    }
  }
  std::erase_if(blocks, [](const Block& block) { return block.rows.empty(); });
  for (Block& block : blocks) {
    std::stable_sort(block.rows.begin(), block.rows.end(),
                     [](const SourceRow& a, const SourceRow& b) { return a.bits < b.bits; });
  }
  return blocks;
}

std::vector<MetricColumn> choose_metrics(const std::vector<ReportFile>& reports,
                                         const std::vector<Block>& blocks,
                                         const std::vector<std::string>& tags) {
  Json meanings = Json::object();
  for (const ReportFile& report : reports) meanings.update(report.json.at("meta").at("metrics"));
  std::vector<std::string> chosen = tags;
  if (chosen.empty()) {
    chosen = reports.front().json.at("meta").at("config").value("metrics", std::vector<std::string>{});
    if (chosen.empty()) chosen.assign(default_metrics.begin(), default_metrics.end());
    std::erase_if(chosen, [&](const std::string& tag) { return !some_row_has(blocks, tag); });
    if (chosen.empty()) chosen = {stored_size_tag};
  }
  std::vector<MetricColumn> metrics;
  for (const std::string& tag : chosen) {
    if (tag != stored_size_tag && !meanings.contains(tag)) {
      std::vector<std::string> known{stored_size_tag};
      for (const auto& [name, meaning] : meanings.items()) known.push_back(name);
      throw UsageError(fmt::format("unknown metric '{}'; these reports know {}{}", tag,
                                   fmt::join(known, ", "), nearest_hint(tag, known)));
    }
    if (!some_row_has(blocks, tag)) {
      throw Error(fmt::format(
          "no row of {} holds the metric '{}': metrics of attention need dumps with queries",
          reports.size() == 1 ? fmt::format("'{}'", reports.front().path) : "these reports", tag));
    }
    metrics.push_back(metric_column(tag, meanings, blocks));
  }
  return metrics;
}

TableCell text_cell(std::string text) {
  TableCell cell;
  cell.text = std::move(text);
  return cell;
}

TableCell integer_cell(std::int64_t value) {
  TableCell cell;
  cell.text = fmt::to_string(value);
  return cell;
}

TableCell metric_cell(const SourceRow& row, const MetricColumn& metric) {
  TableCell cell;
  const std::optional<RowMetric> found = row_metric(*row.json, metric.tag);
  if (!found) return cell;
  cell.value = found->mean;
  cell.text = metric.format.write(found->mean);
  if (found->std) {
    cell.spread = found->std;
    if (*found->std > 0.0) cell.spread_text = metric.format.write_spread(*found->std);
  }
  return cell;
}

TableCell worst_cell(const SourceRow& row, const MetricColumn& metric) {
  TableCell cell;
  const std::optional<RowMetric> found = row_metric(*row.json, metric.tag);
  if (!found || !found->worst) return cell;
  cell.value = found->worst;
  cell.text = metric.format.write(*found->worst);
  cell.note = found->worst_place;
  return cell;
}

void mark_best(const Block& block, const MetricColumn& metric, const std::vector<const SourceRow*>& rows,
               const std::vector<TableCell*>& cells) {
  if (block.isotropic || metric.column.better.empty()) return;
  const Better better = better_of(metric.column.better);
  std::optional<std::size_t> best;
  std::size_t candidates = 0;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (!cells[i]->value) continue;
    ++candidates;
    if (!best || is_worse(better, *cells[*best]->value, *cells[i]->value)) best = i;
  }
  if (candidates < 2) return;
  if (block.unranked.contains(
          {metric.tag, rows[*best]->bits, rows[*best]->json->at("quantizer").get<std::string>()}))
    return;
  // Where the digits shown are equal, bold would claim a difference that the reader cannot see.
  for (TableCell* cell : cells) cell->bold = cell->value && cell->text == cells[*best]->text;
}

std::string spread_note(const std::vector<SourceRow>& rows, const std::vector<MetricColumn>& metrics) {
  std::set<std::int64_t> seeds;
  for (const SourceRow& row : rows) {
    for (const MetricColumn& metric : metrics) {
      const Json& held = row.json->at("metrics");
      if (const auto found = held.find(metric.tag); found != held.end())
        seeds.insert(found->at("n").get<std::int64_t>());
    }
  }
  if (seeds.empty()) return "";
  if (*seeds.rbegin() == 1) return "One seed, averaged over layers and KV heads.";
  const std::string count = seeds.size() == 1 ? fmt::to_string(*seeds.begin())
                                              : fmt::format("{} to {}", *seeds.begin(), *seeds.rbegin());
  return fmt::format("Mean ± standard deviation over {} seeds of the average over layers and KV heads.",
                     count);
}

std::string side_note(const std::vector<SourceRow>& rows) {
  double least = std::numeric_limits<double>::infinity(), most = 0.0;
  for (const SourceRow& row : rows) {
    const double bits = row.json->value("side_bits_per_value", 0.0);
    least = std::min(least, bits);
    most = std::max(most, bits);
  }
  if (!(most > 0.0)) return "";
  return fmt::format(
      "Stored beside bits/value, once a sequence (sinks, shifts): {:.2g} to {:.2g} bits a value at this "
      "length.",
      least, most);
}

std::vector<std::string> missing_notes(const std::vector<SourceRow>& rows,
                                       const std::vector<MetricColumn>& metrics) {
  std::vector<std::string> notes;
  for (const MetricColumn& metric : metrics) {
    std::int64_t missing = 0;
    for (const SourceRow& row : rows) {
      const Json& held = row.json->at("metrics");
      if (const auto found = held.find(metric.tag); found != held.end()) {
        missing = std::max(missing, found->value("missing_cells", std::int64_t{0}));
      }
    }
    if (missing > 0) {
      notes.push_back(fmt::format("{}: {} (layer, KV head) cells do not have it and are left out.",
                                  metric.column.title, missing));
    }
  }
  return notes;
}

std::vector<std::string> source_lines(const std::vector<ReportFile>& reports) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    const Json& json = reports[i].json;
    if (reports[i].path.empty()) continue;
    const Json& meta = json.at("meta");
    const Json& git = meta.at("git");
    const bool dirty = git.at("dirty").is_boolean() && git.at("dirty").get<bool>();
    std::vector<std::string> dumps;
    for (const Json& dataset : json.value("datasets", Json::array())) {
      const std::string sha256 = dataset.at("sha256").get<std::string>();
      dumps.push_back(fmt::format(
          "{} sha256 {}", std::filesystem::path(dataset.at("path").get<std::string>()).filename().string(),
          sha256.empty() ? "unknown" : sha256.substr(0, sha256_prefix)));
    }
    if (is_bench_report(reports[i])) dumps.push_back(meta.at("cpu").get<std::string>());
    lines.push_back(fmt::format("{}{} ({}, {} {}, git {}{}); {}",
                                reports.size() > 1 ? fmt::format("[{}] ", i + 1) : "", reports[i].path,
                                json.at("schema").get<std::string>(), meta.at("tool").get<std::string>(),
                                meta.at("version").get<std::string>(),
                                git.at("revision").get<std::string>().substr(0, revision_prefix),
                                dirty ? " with local changes" : "", fmt::join(dumps, ", ")));
  }
  return lines;
}

}  // namespace rotorquant::evaluation
