// Inspections as a table for people and as JSON.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "evaluation/dump/inspect.hpp"

namespace rotorquant::evaluation {
namespace {

using nlohmann::ordered_json;

std::string rope_text(const DumpInfo& info) {
  if (info.rope_stage == "none") return "none";
  return fmt::format("keys {}-RoPE, {} layout, theta {:g}, {} channels{}", info.rope_stage, info.rope_layout,
                     info.rope_theta, info.rotary_dim,
                     info.has_rope_inv_freq ? ", with inverse frequencies" : "");
}

std::string queries_text(const DumpInfo& info) {
  if (info.num_queries == 0) return fmt::format("none: {}", info.no_queries_reason);
  return fmt::format("{} heads x {} queries x {}", info.num_query_heads, info.num_queries, info.head_dim);
}

std::string tensor_row(const HeadInspection& head, const TensorStatistics& tensor) {
  return fmt::format(
      "{:>5} {:>4}  {:>9.4g} {:>9.4g} {:>9.4g}  {:>8.3g}  {:<13}  {:>9.1f}%  {:>9.1f}  {:>8.3g}", head.layer,
      head.kv_head, tensor.norm_min, tensor.norm_median, tensor.norm_max, tensor.outlier_ratio,
      fmt::format("{}", fmt::join(tensor.top_channels, ",")), 100.0 * tensor.mean_energy_share,
      tensor.effective_rank, tensor.kurtosis);
}

// JSON has no infinity.
ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

std::string verdict(const IsotropyReport& isotropy) {
  if (!isotropy.enough_tokens) return "verdict: too few tokens to tell whether the keys are isotropic\n";
  return isotropy.isotropic ? "verdict: the keys are isotropic; orthogonal rotations cannot differ on them, "
                              "so that there is no "
                              "ranking of rotations\n"
                            : "verdict: the keys are not isotropic; rotations can differ on them\n";
}

ordered_json isotropy_json(const IsotropyReport& isotropy) {
  return {{"isotropic", isotropy.isotropic},
          {"enough_tokens", isotropy.enough_tokens},
          {"eigenvalue_spread_ratio", number(isotropy.eigenvalue_spread_ratio)},
          {"kurtosis_ratio", number(isotropy.kurtosis_ratio)},
          {"mean_energy_share", number(isotropy.mean_energy_share)}};
}

constexpr const char* tensor_header =
    "layer head   norm min    median       max  outliers  top channels   mean share  eff. rank  kurtosis";

ordered_json tensor_json(const TensorStatistics& tensor) {
  return {{"norm", {{"min", tensor.norm_min}, {"median", tensor.norm_median}, {"max", tensor.norm_max}}},
          {"outlier_ratio", number(tensor.outlier_ratio)},
          {"top_channels", tensor.top_channels},
          {"mean_energy_share", tensor.mean_energy_share},
          {"effective_rank", tensor.effective_rank},
          {"kurtosis", tensor.kurtosis}};
}

ordered_json info_json(const DumpInfo& info) {
  return {{"model", info.model},
          {"source", info.source},
          {"element_type", info.element_type},
          {"num_layers", info.num_layers},
          {"layers", info.layers},
          {"num_query_heads", info.num_query_heads},
          {"num_kv_heads", info.num_kv_heads},
          {"head_dim", info.head_dim},
          {"value_dim", info.value_dim},
          {"num_tokens", info.num_tokens},
          {"num_queries", info.num_queries},
          {"softmax_scale", info.softmax_scale},
          {"causal", info.causal},
          {"rope_stage", info.rope_stage},
          {"rope_layout", info.rope_layout},
          {"rope_theta", info.rope_theta},
          {"rotary_dim", info.rotary_dim},
          {"has_positions", info.has_positions},
          {"has_rope_inv_freq", info.has_rope_inv_freq},
          {"has_token_ids", info.has_token_ids}};
}

}  // namespace

std::string inspection_text(const Inspection& inspection) {
  const DumpInfo& info = inspection.info;
  std::string text = fmt::format("{}\n", inspection.path);
  const auto line = [&](const char* name, const std::string& value) {
    if (!value.empty()) text += fmt::format("  {:<10} {}\n", name, value);
  };
  line("sha256", inspection.sha256);
  line("model", info.model);
  line("source", info.source);
  line("layers",
       fmt::format("{} of {}: {}", info.layers.size(), info.num_layers, fmt::join(info.layers, ", ")));
  line("keys", fmt::format("{} heads x {} tokens x {}, {}", info.num_kv_heads, info.num_tokens, info.head_dim,
                           info.element_type));
  line("values",
       fmt::format("{} heads x {} tokens x {}", info.num_kv_heads, info.num_tokens, info.value_dim));
  line("queries", queries_text(info));
  line("attention",
       fmt::format("{}, softmax scale {:g}", info.causal ? "causal" : "not causal", info.softmax_scale));
  line("RoPE", rope_text(info));

  text += fmt::format("\nkeys\n{}  {:>7}  {:>7}  isotropic\n", tensor_header, "spread", "kurt.");
  for (const HeadInspection& head : inspection.heads) {
    text += fmt::format("{}  {:>7.3g}  {:>7.3g}  {}\n", tensor_row(head, head.key),
                        head.isotropy.eigenvalue_spread_ratio, head.isotropy.kurtosis_ratio,
                        head.isotropy.isotropic ? "yes" : "no");
  }
  text += fmt::format("\nvalues\n{}\n", tensor_header);
  for (const HeadInspection& head : inspection.heads) text += tensor_row(head, head.value) + "\n";
  text +=
      "\noutliers: greatest channel peak over the median one. mean share: energy of the channel mean. "
      "kurtosis: of the "
      "coordinates\nof a direction (3 when Gaussian). spread, kurt.: eigenvalue spread and kurtosis over "
      "those of a "
      "matched random control.\n";
  text += verdict(inspection.isotropy);
  return text;
}

ordered_json inspection_json(const Inspection& inspection) {
  ordered_json heads = ordered_json::array();
  for (const HeadInspection& head : inspection.heads) {
    heads.push_back({{"layer", head.layer},
                     {"kv_head", head.kv_head},
                     {"key", tensor_json(head.key)},
                     {"value", tensor_json(head.value)},
                     {"isotropy", isotropy_json(head.isotropy)}});
  }
  return {{"path", inspection.path},
          {"sha256", inspection.sha256},
          {"file_bytes", inspection.file_bytes},
          {"info", info_json(inspection.info)},
          {"isotropy", isotropy_json(inspection.isotropy)},
          {"heads", heads}};
}

std::string problems_text(const std::string& path, const std::vector<Problem>& problems) {
  if (problems.empty()) return path + ": valid\n";
  std::string text;
  for (const Problem& problem : problems)
    text += fmt::format("{}: {}: {}\n", path, problem.path, problem.message);
  return text;
}

ordered_json problems_json(const std::string& path, const std::vector<Problem>& problems) {
  ordered_json list = ordered_json::array();
  for (const Problem& problem : problems)
    list.push_back({{"path", problem.path}, {"message", problem.message}});
  return {{"path", path}, {"valid", problems.empty()}, {"problems", list}};
}

}  // namespace rotorquant::evaluation
