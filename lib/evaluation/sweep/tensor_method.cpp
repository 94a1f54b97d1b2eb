#include "evaluation/sweep/tensor_method.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "evaluation/sweep/ranges.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/registry.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr char width_key[] = "bits";
constexpr char sinks_key[] = "sinks";
constexpr char center_key[] = "center";
constexpr std::int64_t most_sinks = 1 << 20;

// Moves the parameters of the sequence out of a specification.
QuantizerSpec take_sequence_parameters(QuantizerSpec& spec) {
  QuantizerSpec sequence{spec.name, {}};
  for (const ParameterInfo& info : sequence_parameters()) {
    const auto given = spec.parameters.find(info.key);
    if (given == spec.parameters.end()) continue;
    sequence.parameters.insert(*given);
    spec.parameters.erase(given);
  }
  return sequence;
}

// A parameter that is one whole number, where a list of the command line would take several.
std::int64_t single_number(const std::string& text, const std::string& what, std::int64_t low,
                           std::int64_t high) {
  const std::vector<std::int64_t> numbers = parse_ranges(text, what, low, high);
  if (numbers.size() != 1) {
    throw UsageError(fmt::format("{} '{}': valid: one whole number from {} to {}", what, text, low, high));
  }
  return numbers.front();
}

Centering centering_of(const std::string& name) {
  if (name == "online") return Centering::online;
  return name == "channel-mean" ? Centering::channel_mean : Centering::none;
}

}  // namespace

const std::vector<ParameterInfo>& sequence_parameters() {
  static const std::vector<ParameterInfo> parameters = {
      {width_key, "an integer from 1 to 8", "the sweep's", "width of this quantizer alone"},
      {sinks_key, "a whole number", "0, or --sinks", "first tokens of the sequence kept in 16 bits, charged"},
      {center_key, "none|online|channel-mean", "none",
       "subtract the mean of tokens 4..127, or of all, kept in 16 bits and charged; softmax over keys does "
       "not see it"},
  };
  return parameters;
}

const std::vector<ParameterInfo>& calibrated_parameters() {
  static const std::vector<ParameterInfo> parameters = {
      {"codec", "lloyd-max|trellis", "lloyd-max",
       "what indices stand for: scalar levels or a tail-biting trellis code"},
      {"memory", "an integer, 3 or 5", "5", "of the trellis"},
      {"search", "full|nearest", "full",
       "encoder: joint search of centroid, scale and indices, or nearest of each"},
      {"adapt", "shift+scales|shift|none", "shift+scales",
       "what is measured on the sequence's tokens 4..127 and stored"},
  };
  return parameters;
}

TensorSpec parse_tensor_spec(const std::string& text, int default_bits, std::int64_t default_sinks) {
  TensorSpec spec;
  spec.quantizer = QuantizerSpec::parse(text);
  const QuantizerSpec sequence = take_sequence_parameters(spec.quantizer);
  const auto given = [&](const char* key) { return sequence.parameters.find(key); };
  const std::string what = fmt::format("quantizer '{}': ", sequence.name);
  spec.bits = default_bits;
  spec.sinks = default_sinks;
  if (const auto bits = given(width_key); bits != sequence.parameters.end()) {
    spec.bits = static_cast<int>(single_number(bits->second, what + width_key, min_bits, max_bits));
  }
  if (const auto sinks = given(sinks_key); sinks != sequence.parameters.end()) {
    spec.sinks = single_number(sinks->second, what + sinks_key, 0, most_sinks);
  }
  if (given(center_key) != sequence.parameters.end()) {
    const ParameterReader reader(sequence, sequence_parameters());
    spec.centering = centering_of(reader.choice(center_key));
  }
  if (spec.calibrated() && spec.centering != Centering::none) {
    throw UsageError(
        fmt::format("{}center has no meaning; its centroids and online shift centre the keys", what));
  }
  return spec;
}

bool fixes_width(const QuantizerSpec& spec) {
  return spec.parameters.contains(width_key);
}

QuantizerSpec values_of(const QuantizerSpec& keys) {
  QuantizerSpec plain = keys;
  const QuantizerSpec sequence = take_sequence_parameters(plain);
  // Calibration is of keys; values take the same family's rotation that needs no data.
  QuantizerSpec values = plain.name == calibrated_name
                             ? QuantizerSpec{"rotorquant", {{"rotation", "cascade"}, {"scale", "mse"}}}
                             : value_spec(plain);
  for (const char* key : {width_key, sinks_key}) {
    const auto given = sequence.parameters.find(key);
    if (given != sequence.parameters.end()) values.parameters.insert(*given);
  }
  return values;
}

int least_bits(const TensorSpec& spec) {
  return spec.calibrated() ? min_bits : find_quantizer(spec.quantizer.name).min_bits;
}

TensorMethod::TensorMethod(const TensorSpec& spec, std::uint64_t seed, std::int64_t dim,
                           std::shared_ptr<const TransformSet> transforms)
    : sinks_(spec.sinks), bits_(spec.bits) {
  if (!spec.calibrated()) {
    quantizer_ = make_quantizer(spec.quantizer, {spec.bits, seed, dim});
    method_ = std::make_shared<CenteredKeys>(quantizer_, spec.centering);
    return;
  }
  const ParameterReader reader(spec.quantizer, calibrated_parameters());
  if (reader.choice("search") == "nearest") search_ = nearest_search;
  if (reader.choice("codec") == "trellis") {
    code_.kind = CalibratedCodecKind::trellis;
    const std::int64_t memory = reader.integer("memory", 3, 5);
    if (memory == 4)
      throw UsageError(fmt::format("quantizer '{}': memory = '4'; valid: 3 or 5", calibrated_name));
    code_.memory = static_cast<int>(memory);
  }
  const std::string adapt = reader.choice("adapt");
  adaptation_.shift = adapt != "none";
  adaptation_.scales = adapt == "shift+scales";
  if (transforms == nullptr) {
    throw UsageError(
        fmt::format("quantizer '{}': no transforms given; valid: with --transforms FILE, as 'rotorquant "
                    "calibrate' writes",
                    calibrated_name));
  }
  transforms_ = std::move(transforms);
}

std::shared_ptr<const KeyMethod> TensorMethod::at(std::int64_t layer, std::int64_t kv_head) const {
  if (method_ != nullptr) return method_;
  return std::make_shared<CalibratedKeys>(transforms_->find(layer, kv_head, bits_).parameters, adaptation_,
                                          search_, code_);
}

StoredSize stored_size(const CodeLayout& layout, std::int64_t model_floats) {
  StoredSize size;
  for (const CodeArray& array : layout.arrays) {
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
  size.bits_per_vector = 8 * layout.bytes_per_vector();
  size.bits_per_value = layout.bits_per_value();
  size.model_floats = model_floats;
  return size;
}

}  // namespace rotorquant::evaluation
