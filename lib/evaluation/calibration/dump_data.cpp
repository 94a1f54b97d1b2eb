#include "evaluation/calibration/dump_data.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

// Throws unless `dump` is of the model of `first`.
void check_same_model(const Dump& first, const Dump& dump) {
  const DumpInfo& a = first.info();
  const DumpInfo& b = dump.info();
  const auto require = [&](bool equal, const char* what) {
    if (!equal) {
      throw Error(fmt::format("{}: {} differs from that of {}; valid: dumps of one model", dump.path(), what,
                              first.path()));
    }
  };
  require(a.head_dim == b.head_dim, "head_dim");
  require(a.num_kv_heads == b.num_kv_heads, "num_kv_heads");
  require(a.num_query_heads == b.num_query_heads, "num_query_heads");
  require(a.softmax_scale == b.softmax_scale, "softmax_scale");
  require(a.causal == b.causal, "causal");
  require(a.rope_layout == b.rope_layout && a.rope_stage == b.rope_stage &&
              first.rope_inv_freq() == dump.rope_inv_freq(),
          "the rotary embedding");
}

}  // namespace

Rope dump_rope(const Dump& dump) {
  const DumpInfo& info = dump.info();
  if (info.rope_stage == "none") return {};
  if (info.rope_stage == "pre") {
    throw Error(dump.path() +
                ": rope_stage is 'pre'; valid: 'post', keys and queries as attention uses them, or 'none'");
  }
  if (!info.has_rope_inv_freq) {
    throw Error(dump.path() +
                ": rope_inv_freq is missing, without which keys cannot be turned back; valid: a dump with "
                "/rope_inv_freq [rotary_dim / 2]");
  }
  return {dump.rope_inv_freq(), info.rope_layout == "half" ? RopeLayout::half : RopeLayout::interleaved};
}

CalibrationData load_calibration_data(std::span<const Dump> dumps,
                                      const std::optional<std::vector<std::int64_t>>& layers) {
  if (dumps.empty()) throw UsageError("calibration: no dump; valid: one or more");
  CalibrationData data;
  const DumpInfo& info = dumps[0].info();
  data.model = {info.head_dim, info.softmax_scale, info.causal, dump_rope(dumps[0])};
  std::set<std::int64_t> available;
  for (const Dump& dump : dumps) {
    check_same_model(dumps[0], dump);
    if (dump.info().num_queries == 0) {
      throw Error(
          fmt::format("{}: calibration needs queries: {}", dump.path(), dump.info().no_queries_reason));
    }
    available.insert(dump.info().layers.begin(), dump.info().layers.end());
    data.positions.push_back(dump.positions());
    data.query_tokens.push_back(dump.query_positions());
    data.sources.push_back({std::filesystem::path(dump.path()).filename().string(), dump.sha256(),
                            dump.info().model, dump.info().source, dump.info().num_tokens});
  }
  std::vector<std::int64_t> chosen(available.begin(), available.end());
  if (layers) {
    for (const std::int64_t layer : *layers) {
      if (!available.contains(layer)) {
        throw Error(fmt::format("calibration: layer {} is in no dump; present: {}", layer,
                                fmt::join(available, ", ")));
      }
    }
    chosen = *layers;
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  }

  const std::int64_t group = info.num_query_heads / info.num_kv_heads;
  const auto keep = [&](std::vector<float> tensor) {
    const auto rows = static_cast<std::int64_t>(tensor.size()) / info.head_dim;
    const HostView<const float> view{data.tensors.emplace_back(std::move(tensor)).data(), rows,
                                     info.head_dim};
    return view;  // moving the vector that owns the values does not move them
  };
  for (const std::int64_t layer : chosen) {
    for (std::int64_t head = 0; head < info.num_kv_heads; ++head) {
      CalibrationInput& input = data.inputs.emplace_back();
      input.layer = layer;
      input.kv_head = head;
      for (std::size_t i = 0; i < dumps.size(); ++i) {
        const std::vector<std::int64_t>& held = dumps[i].info().layers;
        if (std::find(held.begin(), held.end(), layer) == held.end()) continue;
        CalibrationSequence& sequence = input.sequences.emplace_back();
        sequence.keys = keep(dumps[i].read_key(layer, head));
        for (std::int64_t q = head * group; q < (head + 1) * group; ++q) {
          sequence.queries.push_back(keep(dumps[i].read_query(layer, q)));
        }
        sequence.positions = data.positions[i];
        sequence.query_tokens = data.query_tokens[i];
      }
    }
  }
  return data;
}

}  // namespace rotorquant::evaluation
