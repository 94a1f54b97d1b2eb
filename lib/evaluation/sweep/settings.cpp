#include "evaluation/sweep/settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "evaluation/statistics/theory.hpp"
#include "evaluation/sweep/ranges.hpp"
#include "rotorquant/cache/kv_cache.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr const char* width_key = "bits";

// The width a specification fixes for itself, or `bits`.
int width_of(const QuantizerSpec& spec, int bits) {
  const auto fixed = spec.parameters.find(width_key);
  if (fixed == spec.parameters.end()) return bits;
  return static_cast<int>(
      parse_ranges(fixed->second, "quantizer '" + spec.name + "': bits", min_bits, max_bits).front());
}

bool fixes_width(const QuantizerSpec& spec) {
  return spec.parameters.contains(width_key);
}

std::shared_ptr<const Quantizer> build(const std::string& text, int bits, std::uint64_t seed,
                                       std::int64_t dim) {
  QuantizerSpec spec = QuantizerSpec::parse(text);
  const int width = width_of(spec, bits);
  spec.parameters.erase(width_key);
  return make_quantizer(spec, {width, seed, dim});
}

StoredSize stored_size(const Quantizer& quantizer) {
  StoredSize size;
  for (const CodeArray& array : quantizer.layout().arrays) {
    for (const CodeField& field : array.fields) {
      const std::string name = field_kind_name(field.kind);
      const auto known = std::find_if(size.fields.begin(), size.fields.end(),
                                      [&](const auto& f) { return f.first == name; });
      if (known == size.fields.end()) {
        size.fields.emplace_back(name, field.bits);
      } else {
        known->second += field.bits;
      }
    }
  }
  size.bits_per_vector = 8 * quantizer.layout().bytes_per_vector();
  size.bits_per_value = quantizer.layout().bits_per_value();
  size.model_floats = quantizer.stored_floats();
  return size;
}

struct Pairing {
  std::string label;
  QuantizerSpec keys;
  QuantizerSpec values;
};

std::vector<Pairing> pairings(const SweepRequest& request) {
  std::vector<Pairing> pairs;
  for (const std::string& text : request.quantizers) {
    const QuantizerSpec keys = QuantizerSpec::parse(text);
    QuantizerSpec values = value_spec(keys);
    if (fixes_width(keys)) values.parameters[width_key] = keys.parameters.at(width_key);
    pairs.push_back({text, keys, values});
  }
  if (request.keys.empty() != request.values.empty()) {
    throw UsageError(
        "keys and values: only one of them is given; valid: both, or quantizers for both at once");
  }
  if (request.keys.empty()) return pairs;
  const std::size_t count = std::max(request.keys.size(), request.values.size());
  for (const std::size_t given : {request.keys.size(), request.values.size()}) {
    if (given != 1 && given != count) {
      throw UsageError(fmt::format(
          "keys and values: {} and {} quantizers do not pair up; valid: equal numbers, or one of either",
          request.keys.size(), request.values.size()));
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& keys = request.keys[request.keys.size() == 1 ? 0 : i];
    const std::string& values = request.values[request.values.size() == 1 ? 0 : i];
    pairs.push_back(
        {fmt::format("{} | {}", keys, values), QuantizerSpec::parse(keys), QuantizerSpec::parse(values)});
  }
  return pairs;
}

// What decides a codec but its rotation: the number of stages and every parameter that is not a rotation's.
std::pair<bool, std::map<std::string, std::string>> codec_of(const std::string& text) {
  const QuantizerSpec spec = QuantizerSpec::parse(text);
  std::map<std::string, std::string> parameters = spec.parameters;
  for (const char* key : {"rotation", "tail", "mode", "rotor_sampling", "layers", "cascade_rotors"})
    parameters.erase(key);
  return {find_quantizer(spec.name).value_name == spec.name, parameters};
}

// Why this specification cannot have this width, or "".
std::string width_refusal(const QuantizerSpec& spec, int bits) {
  const int least = find_quantizer(spec.name).min_bits;
  return width_of(spec, bits) < least ? fmt::format("{} needs at least {} bits", spec.name, least) : "";
}

}  // namespace

SettingList expand_settings(const SweepRequest& request, std::int64_t head_dim, std::int64_t value_dim,
                            Space space) {
  SettingList list;
  for (const Pairing& pair : pairings(request)) {
    const bool fixed = fixes_width(pair.keys) && fixes_width(pair.values);
    const std::vector<std::int64_t> widths =
        fixed ? std::vector<std::int64_t>{request.bits.front()} : request.bits;
    for (const std::int64_t bits : widths) {
      Setting setting;
      setting.label = pair.label;
      setting.keys = pair.keys.text();
      setting.values = pair.values.text();
      setting.bits = width_of(pair.keys, static_cast<int>(bits));
      std::string refusal = width_refusal(pair.keys, setting.bits);
      if (refusal.empty()) refusal = width_refusal(pair.values, setting.bits);
      if (!refusal.empty()) {
        list.skipped.push_back({fmt::format("{} at {} bits", pair.label, setting.bits), refusal});
        continue;
      }
      const auto same = [&](const Setting& s) { return s.label == setting.label && s.bits == setting.bits; };
      if (std::any_of(list.settings.begin(), list.settings.end(), same)) {
        throw UsageError(fmt::format("quantizer '{}' is given twice at {} bits", pair.label, setting.bits));
      }
      const QuantizerPair built = build_pair(setting, 0, head_dim, value_dim);
      std::optional<std::string> missing = built.keys->unsupported_on(space);
      if (!missing) missing = built.values->unsupported_on(space);
      if (missing) {
        list.skipped.push_back({fmt::format("{} at {} bits", pair.label, setting.bits), *missing});
        continue;
      }
      if (const auto* codec = dynamic_cast<const ScalarCodec*>(built.keys.get())) {
        setting.isotropic_nmse = expected_distortion(codec->codebook(), head_dim);
        setting.nmse_bound = mse_bound(codec->codebook().bits());
      }
      setting.key_size = stored_size(*built.keys);
      setting.value_size = stored_size(*built.values);
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

QuantizerPair build_pair(const Setting& setting, std::uint64_t seed, std::int64_t head_dim,
                         std::int64_t value_dim) {
  return {build(setting.keys, setting.bits, seed, head_dim),
          build(setting.values, setting.bits, seed + value_seed_offset, value_dim)};
}

bool differ_in_rotation_alone(const Setting& a, const Setting& b) {
  return a.key_size.fields == b.key_size.fields && a.value_size.fields == b.value_size.fields &&
         codec_of(a.keys) == codec_of(b.keys) && codec_of(a.values) == codec_of(b.values);
}

}  // namespace rotorquant::evaluation
