#include "evaluation/sweep/reconstruct.hpp"

#include <numeric>

#include "evaluation/calibration/transforms_file.hpp"
#include "evaluation/dump/writer.hpp"
#include "evaluation/sweep/settings.hpp"
#include "evaluation/sweep/stopwatch.hpp"
#include "rotorquant/cache/key_sequence.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant::evaluation {
namespace {

// Everything stored beyond `base`'s bits for each token: `coder`, which may have more bits, coded the
// sequence.
BitsByField side_bits(const KeySequence& sequence, const KeyMethod& coder, const KeyMethod& base) {
  const auto bits_of_tokens = [](const KeyMethod& method, std::int64_t tokens) {
    return 8 * method.layout().bytes_per_vector() * tokens / method.tokens_per_code();
  };
  BitsByField side;
  const auto add = [&](const std::string& name, std::int64_t bits) {
    if (bits != 0) add_bits(side, name, bits);
  };
  const std::int64_t sinks = sequence.sink_bits() / (16 * sequence.dim());
  const std::int64_t recent = sequence.window_bits() / (16 * sequence.dim());
  const std::int64_t coded = sequence.size() - sinks - recent;
  add("sinks", sequence.sink_bits() - bits_of_tokens(base, sinks));
  add("window", sequence.window_bits() - bits_of_tokens(base, recent));
  add("other widths", bits_of_tokens(coder, coded) - bits_of_tokens(base, coded));
  for (const SideField& field : sequence.side()) add(field.name, field.bits);
  return side;
}

}  // namespace

void add_bits(BitsByField& fields, const std::string& name, std::int64_t bits) {
  for (auto& [known, known_bits] : fields) {
    if (known != name) continue;
    known_bits += bits;
    return;
  }
  fields.emplace_back(name, bits);
}

SeenTensor seen_tensor(const Reconstruction& reconstruction, std::int64_t dim) {
  const auto view = [&](const std::vector<float>& x) {
    return HostView<const float>{x.data(), static_cast<std::int64_t>(x.size()) / dim, dim};
  };
  return {view(reconstruction.data), view(reconstruction.recent), reconstruction.coded_end};
}

Reconstruction reconstruct_tensor(const TensorMethod& method, std::int64_t layer, std::int64_t kv_head,
                                  HostView<const float> x, std::span<const std::int64_t> positions,
                                  const std::shared_ptr<const Rope>& rope) {
  Reconstruction out;
  out.data.resize(static_cast<std::size_t>(x.size()));
  const std::shared_ptr<const KeyMethod> coder = method.at(layer, kv_head);
  KeySequence sequence(coder, method.sixteen_bits(), coder->before_rope() ? rope : nullptr);
  const Stopwatch start;
  sequence.append({}, x, positions);
  out.encode_seconds = start.seconds();
  const Stopwatch encoded;
  sequence.decode({}, {out.data.data(), x.rows, x.cols});
  out.decode_seconds = encoded.seconds();
  if (method.sixteen_bits().window > 0) {
    for (std::int64_t i = 0; i < x.size(); ++i) out.recent.push_back(half_to_float(float_to_half(x.data[i])));
    for (std::int64_t n = 0; n <= x.rows; ++n) out.coded_end.push_back(sequence.coded_end(n));
  }
  out.side = side_bits(sequence, *coder, *method.base());
  return out;
}

void write_reconstruction(const Dump& dump, const ReconstructRequest& request, const std::string& path,
                          const Context& context) {
  const DumpInfo& info = dump.info();
  if (!request.quantizer.empty() && !(request.keys.empty() && request.values.empty())) {
    throw UsageError(
        "quantizer, and keys or values apart, are both given; valid: one quantizer, or keys and values");
  }
  SweepRequest sweep;
  if (!request.quantizer.empty()) sweep.quantizers = {request.quantizer};
  if (!request.keys.empty()) sweep.keys = {request.keys};
  if (!request.values.empty()) sweep.values = {request.values};
  sweep.bits = {request.bits};
  sweep.sinks = request.sinks;
  SettingContext setting_context{info.head_dim, info.value_dim,     Space::cpu,
                                 nullptr,       request.transforms, info.num_layers};
  if (!request.transforms.empty()) {
    setting_context.transforms = std::make_shared<TransformSet>(read_transforms(request.transforms));
  }
  const Setting setting = expand_settings(sweep, setting_context).settings.front();
  const MethodPair methods = build_methods(setting, request.seed, setting_context);
  std::shared_ptr<const Rope> rope;
  if (setting.calibrated) {
    std::vector<std::int64_t> heads(static_cast<std::size_t>(info.num_kv_heads));
    std::iota(heads.begin(), heads.end(), 0);
    rope = rope_for_calibrated(setting, setting_context, dump, info.layers, heads);
  }
  DumpWriter writer(path, info, ElementType::float32);
  for (const std::int64_t layer : info.layers) {
    std::vector<Reconstruction> keys(static_cast<std::size_t>(info.num_kv_heads));
    std::vector<Reconstruction> values(static_cast<std::size_t>(info.num_kv_heads));
    parallel_for(context, info.num_kv_heads, [&](std::int64_t head) {
      const std::vector<float> key = dump.read_key(layer, head);
      const std::vector<float> value = dump.read_value(layer, head);
      keys[static_cast<std::size_t>(head)] = reconstruct_tensor(
          methods.keys, layer, head, {key.data(), info.num_tokens, info.head_dim}, dump.positions(), rope);
      values[static_cast<std::size_t>(head)] =
          reconstruct_tensor(methods.values, layer, head, {value.data(), info.num_tokens, info.value_dim},
                             dump.positions(), nullptr);
    });
    // Written in the order of heads: the bytes of the file do not depend on threads.
    for (std::int64_t head = 0; head < info.num_kv_heads; ++head) {
      const auto h = static_cast<std::size_t>(head);
      writer.write_key(layer, head, {keys[h].data.data(), info.num_tokens, info.head_dim});
      writer.write_value(layer, head, {values[h].data.data(), info.num_tokens, info.value_dim});
    }
    if (info.num_queries == 0) continue;
    for (std::int64_t head = 0; head < info.num_query_heads; ++head) {
      const std::vector<float> query = dump.read_query(layer, head);
      writer.write_query(layer, head, {query.data(), info.num_queries, info.head_dim});
    }
  }
  if (info.has_positions) writer.write_positions(dump.positions());
  if (info.has_token_ids) writer.write_token_ids(dump.token_ids());
  if (info.num_queries > 0 && info.num_queries != info.num_tokens) {
    std::vector<std::int64_t> query_positions;
    for (const std::int64_t token : dump.query_positions()) {
      query_positions.push_back(dump.positions()[static_cast<std::size_t>(token)]);
    }
    writer.write_query_positions(query_positions);
  }
  if (!dump.rope_inv_freq().empty()) writer.write_rope_inv_freq(dump.rope_inv_freq());
  writer.finish();
}

}  // namespace rotorquant::evaluation
