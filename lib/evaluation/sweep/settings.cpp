#include "evaluation/sweep/settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "evaluation/calibration/dump_data.hpp"
#include "evaluation/statistics/theory.hpp"
#include "evaluation/sweep/schemes.hpp"
#include "rotorquant/cache/kv_cache.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::evaluation {
namespace {

struct Pairing {
  std::string label;
  std::string keys;
  std::string values;
};

std::vector<Pairing> pairings(const SweepRequest& request) {
  std::vector<Pairing> pairs;
  for (const std::string& text : request.quantizers) {
    const QuantizerSpec named = QuantizerSpec::parse(text);
    const std::optional<SchemeTensors> scheme = find_scheme(named, request.sinks);
    const SchemeTensors tensors = scheme ? *scheme : SchemeTensors{named, values_of(named)};
    pairs.push_back({text, tensors.keys.text(), tensors.values.text()});
  }
  if (request.keys.empty() != request.values.empty()) {
    throw UsageError(
        "keys and values: only one of them is given; valid: both, or quantizers for both at once");
  }
  const std::size_t count = std::max(request.keys.size(), request.values.size());
  for (const std::size_t given : {request.keys.size(), request.values.size()}) {
    if (given > 1 && given != count) {
      throw UsageError(fmt::format(
          "keys and values: {} and {} quantizers do not pair up; valid: equal numbers, or one of either",
          request.keys.size(), request.values.size()));
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& keys = request.keys[request.keys.size() == 1 ? 0 : i];
    const std::string& values = request.values[request.values.size() == 1 ? 0 : i];
    for (const std::string& text : {keys, values}) {
      if (const QuantizerSpec spec = QuantizerSpec::parse(text); find_scheme(spec, request.sinks)) {
        throw UsageError(fmt::format(
            "'{}' stands for keys and values; valid: among the quantizers, not where they are named apart",
            spec.name));
      }
    }
    pairs.push_back({fmt::format("{} | {}", keys, values), QuantizerSpec::parse(keys).text(),
                     QuantizerSpec::parse(values).text()});
  }
  return pairs;
}

// Work on transforms, with the file they are from named in its errors.
template <typename Work>
auto naming_transforms(const SettingContext& context, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", context.transforms_path, error.what()));
  }
}

StoredSize size_of(const TensorMethod& method, const SettingContext& context) {
  if (!method.calibrated()) {
    const std::shared_ptr<const KeyMethod> base = method.base();
    try {
      return stored_size(base->layout(), method.model_floats(), base->tokens_per_code());
    } catch (const Error& error) {
      throw Error(
          fmt::format("quantizer '{}' at dim {}: {}", method.quantizer_text(), base->dim(), error.what()));
    }
  }
  // Where layouts differ by head, as with widths of their own, the first one's counts here and the others'
  // difference as side data.
  const std::vector<HeadFit>& heads = context.transforms->heads;
  std::int64_t floats = 0;
  const std::shared_ptr<const KeyMethod> keys = naming_transforms(context, [&] {
    for (const HeadFit& head : heads) floats += method.head_floats(head);
    return method.base();
  });
  return stored_size(keys->layout(), floats);
}

void describe(const MethodPair& methods, const SettingContext& context, Setting& setting) {
  setting.key_size = size_of(methods.keys, context);
  setting.value_size = size_of(methods.values, context);
  const auto* codec = dynamic_cast<const ScalarCodec*>(methods.keys.quantizer());
  if (codec == nullptr || codec->scale_rule() != ScaleRule::norm) return;
  setting.isotropic_nmse = expected_distortion(codec->codebook(), context.head_dim);
  setting.nmse_bound = mse_bound(codec->codebook().bits());
}

// What decides a codec but its rotation: the number of stages and every parameter that is not a rotation's.
std::pair<bool, std::map<std::string, std::string>> codec_of(const std::string& text, int bits) {
  const TensorSpec spec = parse_tensor_spec(text, bits, 0);
  std::map<std::string, std::string> parameters = QuantizerSpec::parse(text).parameters;
  for (const char* key : {"rotation", "tail", "mode", "rotor_sampling", "layers", "cascade_rotors"}) {
    parameters.erase(key);
  }
  if (spec.calibrated()) parameters.emplace("name", spec.quantizer.name);
  // What is no rotation and codebook is a codec of its own.
  if (!spec.calibrated()) {
    const std::vector<ParameterInfo>& accepted = find_quantizer(spec.quantizer.name).parameters;
    const bool family = std::any_of(accepted.begin(), accepted.end(),
                                    [](const ParameterInfo& info) { return info.key == "codebook"; });
    if (!family) parameters.emplace("name", spec.quantizer.name);
  }
  return {spec.calibrated() || find_quantizer(spec.quantizer.name).value_name == spec.quantizer.name,
          parameters};
}

}  // namespace

std::vector<std::string> setting_labels(const SweepRequest& request) {
  std::vector<std::string> labels;
  for (const Pairing& pair : pairings(request)) labels.push_back(pair.label);
  return labels;
}

SettingList expand_settings(const SweepRequest& request, const SettingContext& context) {
  SettingList list;
  std::vector<MethodPair> all_built;  // until the end: widths of one quantizer share what they can
  for (const Pairing& pair : pairings(request)) {
    const bool fixed =
        fixes_width(QuantizerSpec::parse(pair.keys)) && fixes_width(QuantizerSpec::parse(pair.values));
    const std::vector<std::int64_t> widths =
        fixed ? std::vector<std::int64_t>{request.bits.front()} : request.bits;
    for (const std::int64_t width : widths) {
      const TensorSpec keys = parse_tensor_spec(pair.keys, static_cast<int>(width), request.sinks);
      const TensorSpec values = parse_tensor_spec(pair.values, static_cast<int>(width), request.sinks);
      Setting setting;
      setting.label = pair.label;
      setting.keys = pair.keys;
      setting.values = pair.values;
      setting.bits = fixes_width(QuantizerSpec::parse(pair.keys)) ? values.bits : keys.bits;
      setting.sinks = request.sinks;
      setting.calibrated = keys.calibrated() || values.calibrated();
      const std::string what = fmt::format("{} at {} bits", pair.label, setting.bits);
      if (values.calibrated()) {
        throw UsageError(
            fmt::format("quantizer '{}': it codes keys; valid for values: any that needs no transforms",
                        values.quantizer.name));
      }
      std::string refusal = width_refusal(keys);
      if (refusal.empty()) refusal = width_refusal(values);
      if (!refusal.empty()) {
        list.skipped.push_back({what, refusal});
        continue;
      }
      const auto same = [&](const Setting& s) { return s.label == setting.label && s.bits == setting.bits; };
      if (std::any_of(list.settings.begin(), list.settings.end(), same)) {
        throw UsageError(fmt::format("quantizer '{}' is given twice at {} bits", pair.label, setting.bits));
      }
      const MethodPair& built = all_built.emplace_back(build_methods(setting, 0, context));
      std::optional<std::string> missing = built.keys.unsupported_on(context.space);
      if (!missing) missing = built.values.unsupported_on(context.space);
      if (missing) {
        list.skipped.push_back({what, *missing});
        continue;
      }
      describe(built, context, setting);
      list.settings.push_back(setting);
    }
  }
  if (list.settings.empty()) {
    throw UsageError(list.skipped.empty()
                         ? "no quantizers given; valid: one or more of 'rotorquant list quantizers'"
                         : fmt::format("nothing to do: {}", list.skipped.front().why));
  }
  return list;
}

std::shared_ptr<const Rope> rope_for_calibrated(const Setting& setting, const SettingContext& context,
                                                const Dump& dump, const std::vector<std::int64_t>& layers,
                                                const std::vector<std::int64_t>& heads) {
  const auto rope = std::make_shared<const Rope>(dump_rope(dump));
  const TensorSpec keys = parse_tensor_spec(setting.keys, setting.bits, setting.sinks);
  naming_transforms(context, [&] {
    context.transforms->check_model(dump.info().head_dim, dump.info().num_kv_heads, *rope);
    for (const std::int64_t layer : layers) {
      for (const std::int64_t head : heads) {
        context.transforms->head(layer, head);
        if (keys.quantizer.name != calibrated_name) continue;
        context.transforms->find(layer, head, keys.bits);
        if (keys.edge_bits > 0) context.transforms->find(layer, head, keys.edge_bits);
      }
    }
  });
  return rope;
}

bool has_edge_layers(const Setting& setting) {
  return parse_tensor_spec(setting.keys, setting.bits, setting.sinks).edge_layers > 0 ||
         parse_tensor_spec(setting.values, setting.bits, setting.sinks).edge_layers > 0;
}

MethodPair build_methods(const Setting& setting, std::uint64_t seed, const SettingContext& context) {
  const std::optional<int> gpu = context.space == Space::cuda ? std::optional(context.gpu) : std::nullopt;
  return {
      TensorMethod(parse_tensor_spec(setting.keys, setting.bits, setting.sinks),
                   {seed, context.head_dim, context.transforms, TensorRole::keys, context.num_layers, gpu}),
      TensorMethod(parse_tensor_spec(setting.values, setting.bits, setting.sinks),
                   {seed + value_seed_offset, context.value_dim, context.transforms, TensorRole::values,
                    context.num_layers, gpu})};
}

bool differ_in_rotation_alone(const Setting& a, const Setting& b) {
  return a.key_size.fields == b.key_size.fields && a.value_size.fields == b.value_size.fields &&
         codec_of(a.keys, a.bits) == codec_of(b.keys, b.bits) &&
         codec_of(a.values, a.bits) == codec_of(b.values, b.bits);
}

}  // namespace rotorquant::evaluation
