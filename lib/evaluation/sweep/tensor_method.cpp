#include "evaluation/sweep/tensor_method.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "evaluation/sweep/ranges.hpp"
#include "rotorquant/cache/block_gtq.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/device/offloaded_quantizer.hpp"
#include "rotorquant/quantizers/kivi_codec.hpp"
#include "rotorquant/quantizers/pca_codec.hpp"
#include "rotorquant/quantizers/registry.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr char width_key[] = "bits";
constexpr char sinks_key[] = "sinks";
constexpr char window_key[] = "window";
constexpr char center_key[] = "center";
constexpr char outliers_key[] = "outliers";
constexpr char edge_layers_key[] = "edge_layers";
constexpr char edge_bits_key[] = "edge_bits";
constexpr std::int64_t most_tokens = 1 << 20;
constexpr std::int64_t most_channels = 1 << 16;
constexpr std::int64_t most_layers = 1 << 10;
// KIVI's residual length.
constexpr std::int64_t kivi_window = 128;
constexpr char e4m3_name[] = "fp8-e4m3";

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

// The width of a format that has no other.
std::optional<int> only_width_of(const std::string& name) {
  if (find_calibrated(name) != nullptr) return std::nullopt;
  const QuantizerInfo& info = find_quantizer(name);
  return info.min_bits == info.max_bits ? std::optional(info.min_bits) : std::nullopt;
}

// Keys of a method whose quantizers run on a GPU.
class KeysOnGpu final : public KeyMethod {
 public:
  KeysOnGpu(std::shared_ptr<const KeyMethod> method, int gpu) : method_(std::move(method)), gpu_(gpu) {}

  const CodeLayout& layout() const override { return method_->layout(); }
  std::int64_t tokens_per_code() const override { return method_->tokens_per_code(); }
  bool before_rope() const override { return method_->before_rope(); }
  SequenceQuantizer open(HostView<const float> keys, std::int64_t sinks) const override {
    SequenceQuantizer opened = method_->open(keys, sinks);
    opened.quantizer = run_on_gpu(std::move(opened.quantizer), gpu_);
    return opened;
  }

 private:
  std::shared_ptr<const KeyMethod> method_;
  int gpu_;
};

Centering centering_of(const std::string& name) {
  if (name == "online") return Centering::online;
  return name == "channel-mean" ? Centering::channel_mean : Centering::none;
}

}  // namespace

const std::vector<ParameterInfo>& sequence_parameters() {
  static const std::vector<ParameterInfo> parameters = {
      {width_key, "an integer from 1 to 8", "the sweep's", "width of this quantizer alone"},
      {sinks_key, "a whole number", "0, or --sinks", "first tokens of the sequence kept in 16 bits, charged"},
      {window_key, "a whole number", "0; 128 for kivi", "most recent tokens kept in 16 bits, charged"},
      {center_key, "none|online|channel-mean", "none",
       "subtract the mean of tokens 4..127, or of all, kept in 16 bits and charged; softmax over keys does "
       "not see it"},
      {outliers_key, "a whole number below the head dimension", "0",
       "channels of greatest energy at one bit more, as codes of their own; which ones is stored, charged"},
      {edge_layers_key, "a whole number", "0", "first and last layers of the model that have edge_bits"},
      {edge_bits_key, "an integer from 1 to 8", "none", "width in these layers; the difference is charged"},
  };
  return parameters;
}

const std::vector<CalibratedInfo>& calibrated_registry() {
  static const std::vector<CalibratedInfo> registry = {
      {calibrated_name,
       "keys before RoPE, by centroids, cascades of 3x3 blocks and bit widths fitted to keys and queries",
       "README; related: KVQuant 2401.18079, KVTC 2511.01815, Block-GTQ 2606.24033",
       "rotorquant:rotation=cascade:scale=mse",
       {{"codec", "lloyd-max|trellis", "lloyd-max",
         "what indices stand for: scalar levels or a tail-biting trellis code"},
        {"memory", "an integer, 3 or 5", "5", "of the trellis"},
        {"search", "full|nearest", "full",
         "encoder: joint search of centroid, scale and indices, or nearest of each"},
        {"adapt", "shift+scales|shift|none", "shift+scales",
         "what is measured on the sequence's tokens 4..127 and stored"}},
       true},
      {kvtc_name,
       "keys before RoPE, by principal components with allocated bit widths, of each head by itself and "
       "without entropy "
       "coding",
       "KVTC, arXiv 2511.01815",
       "turboquant",
       {}},
      {block_gtq_name,
       "keys after RoPE, by bit widths of channel pairs from query and key energy and TurboQuant in each "
       "width",
       "Liang et al., Block-GTQ, arXiv 2606.24033",
       "turboquant",
       {}},
  };
  return registry;
}

const CalibratedInfo* find_calibrated(const std::string& name) {
  for (const CalibratedInfo& info : calibrated_registry()) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

TensorSpec parse_tensor_spec(const std::string& text, int default_bits, std::int64_t default_sinks) {
  TensorSpec spec;
  spec.quantizer = QuantizerSpec::parse(text);
  const QuantizerSpec sequence = take_sequence_parameters(spec.quantizer);
  const auto given = [&](const char* key) { return sequence.parameters.find(key); };
  const std::string what = fmt::format("quantizer '{}': ", sequence.name);
  const auto number = [&](const char* key, std::int64_t low, std::int64_t high, std::int64_t otherwise) {
    const auto found = given(key);
    return found == sequence.parameters.end() ? otherwise
                                              : single_number(found->second, what + key, low, high);
  };
  const std::optional<int> only_width = only_width_of(sequence.name);
  spec.bits = static_cast<int>(number(width_key, min_bits, max_bits, only_width.value_or(default_bits)));
  if (only_width && spec.bits != *only_width) {
    throw UsageError(fmt::format("{}{} = {}; valid: {}", what, width_key, spec.bits, *only_width));
  }
  spec.sixteen_bits.sinks = number(sinks_key, 0, most_tokens, default_sinks);
  spec.sixteen_bits.window = number(window_key, 0, most_tokens, sequence.name == kivi_name ? kivi_window : 0);
  spec.outliers = number(outliers_key, 0, most_channels, 0);
  spec.edge_layers = number(edge_layers_key, 0, most_layers, 0);
  spec.edge_bits = static_cast<int>(number(edge_bits_key, min_bits, max_bits, 0));
  if ((spec.edge_layers > 0) != (spec.edge_bits > 0)) {
    throw UsageError(
        fmt::format("{}one of {} and {} is given; valid: both", what, edge_layers_key, edge_bits_key));
  }
  if (only_width && (spec.outliers > 0 || spec.edge_bits > 0)) {
    throw UsageError(
        fmt::format("{}it has one width; valid: without {} and {}", what, outliers_key, edge_bits_key));
  }
  if (given(center_key) != sequence.parameters.end()) {
    const ParameterReader reader(sequence, sequence_parameters());
    spec.centering = centering_of(reader.choice(center_key));
  }
  if (spec.calibrated() && spec.centering != Centering::none) {
    throw UsageError(
        fmt::format("{}center has no meaning; what is fitted centres the keys, or was fitted without", what));
  }
  if (spec.calibrated() && spec.outliers > 0) {
    throw UsageError(fmt::format("{}{} has no meaning; its widths are fitted", what, outliers_key));
  }
  return spec;
}

bool fixes_width(const QuantizerSpec& spec) {
  return spec.parameters.contains(width_key) || only_width_of(spec.name).has_value();
}

QuantizerSpec values_of(const QuantizerSpec& keys) {
  QuantizerSpec plain = keys;
  const QuantizerSpec sequence = take_sequence_parameters(plain);
  // Calibration is of keys; values take what needs no data.
  const CalibratedInfo* calibrated = find_calibrated(plain.name);
  QuantizerSpec values = calibrated != nullptr ? QuantizerSpec::parse(calibrated->values) : value_spec(plain);
  // All but the centre: softmax does not see that of keys, while outputs would see that of values.
  for (const auto& [key, value] : sequence.parameters) {
    if (key != center_key) values.parameters.emplace(key, value);
  }
  return values;
}

std::string width_refusal(const TensorSpec& spec) {
  if (spec.calibrated()) return "";
  const QuantizerInfo& info = find_quantizer(spec.quantizer.name);
  const int most = spec.outliers > 0 ? spec.bits + 1 : spec.bits;
  if (spec.bits < info.min_bits) return fmt::format("{} needs at least {} bits", info.name, info.min_bits);
  if (most > info.max_bits) return fmt::format("{} has at most {} bits", info.name, info.max_bits);
  return "";
}

TensorMethod::TensorMethod(const TensorSpec& spec, const TensorContext& context)
    : spec_(spec), seed_(context.seed), num_layers_(context.num_layers), gpu_(context.gpu) {
  if (!spec.calibrated()) {
    method_ = build_method(spec.bits, context);
    if (spec.edge_bits > 0) {
      edge_method_ = build_method(spec.edge_bits, context);
      quantizer_ = nullptr;
    }
    return;
  }
  const ParameterReader reader(spec.quantizer, find_calibrated(spec.quantizer.name)->parameters);
  if (spec.quantizer.name == calibrated_name) read_calibrated(reader);
  if (context.transforms == nullptr) {
    throw UsageError(
        fmt::format("quantizer '{}': no transforms given; valid: with --transforms FILE, as 'rotorquant "
                    "calibrate' writes",
                    spec.quantizer.name));
  }
  transforms_ = context.transforms;
}

bool TensorMethod::depends_on_seed() const {
  if (spec_.calibrated()) return spec_.quantizer.name == block_gtq_name;
  return find_quantizer(spec_.quantizer.name).seeded;
}

void TensorMethod::read_calibrated(const ParameterReader& reader) {
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
}

std::shared_ptr<const KeyMethod> TensorMethod::build_method(int bits, const TensorContext& context) {
  const auto method = std::make_shared<CenteredKeys>(build_fit(bits, context), spec_.centering);
  // The window must fit the codes: known before any work is done.
  KeySequence(method, spec_.sixteen_bits);
  return method;
}

std::shared_ptr<const SequenceFit> TensorMethod::build_fit(int bits, const TensorContext& context) {
  const QuantizerSpec& spec = spec_.quantizer;
  const std::vector<ParameterInfo>& accepted = find_quantizer(spec.name).parameters;
  const auto make = [&](int width, std::int64_t dim) {
    std::shared_ptr<const Quantizer> quantizer = make_quantizer(spec, {width, context.seed, dim});
    model_floats_ += quantizer->stored_floats();
    return quantizer;
  };
  if (spec.name == kivi_name) {
    const ParameterReader reader(spec, accepted);
    const std::string axis = reader.choice("axis");
    if (axis == "channel" || (axis == "auto" && context.role == TensorRole::keys)) {
      if (spec_.outliers > 0)
        throw UsageError(
            fmt::format("quantizer '{}': outliers has no meaning with groups of one channel", spec.name));
      const std::int64_t group = kivi_group(reader);
      return std::make_shared<FixedFit>(
          std::make_shared<KiviCodec>(KiviAxis::channel, context.dim, group, bits), group);
    }
  }
  if (spec.name == e4m3_name && ParameterReader(spec, accepted).choice("scale") == "head") {
    return std::make_shared<HeadScaledE4m3>(context.dim);
  }
  if (spec_.outliers > 0) {
    if (spec_.outliers >= context.dim) {
      throw UsageError(fmt::format("quantizer '{}': outliers = {}; valid: 0 to {}", spec.name, spec_.outliers,
                                   context.dim - 1));
    }
    return std::make_shared<OutlierChannels>(make(bits + 1, spec_.outliers),
                                             make(bits, context.dim - spec_.outliers));
  }
  quantizer_ = make(bits, context.dim);
  if (context.gpu && !quantizer_->unsupported_on(Space::cuda))
    return std::make_shared<FixedFit>(run_on_gpu(quantizer_, *context.gpu));
  return std::make_shared<FixedFit>(quantizer_);
}

bool TensorMethod::at_edge(std::int64_t layer) const {
  return layer < spec_.edge_layers || layer >= num_layers_ - spec_.edge_layers;
}

std::shared_ptr<const KeyMethod> TensorMethod::at(std::int64_t layer, std::int64_t kv_head) const {
  const bool edge = spec_.edge_bits > 0 && at_edge(layer);
  if (method_ != nullptr) return edge ? edge_method_ : method_;
  return fitted(layer, kv_head, edge ? spec_.edge_bits : spec_.bits);
}

std::shared_ptr<const KeyMethod> TensorMethod::fitted(std::int64_t layer, std::int64_t kv_head,
                                                      int bits) const {
  if (spec_.quantizer.name == calibrated_name) {
    auto keys = std::make_shared<CalibratedKeys>(transforms_->find(layer, kv_head, bits).parameters,
                                                 adaptation_, search_, code_);
    if (gpu_ && !unsupported_on(Space::cuda)) return std::make_shared<KeysOnGpu>(keys, *gpu_);
    return keys;
  }
  const KeyStatistics& statistics = *transforms_->head(layer, kv_head).statistics;
  if (spec_.quantizer.name == kvtc_name)
    return std::make_shared<KeysBeforeRope>(std::make_shared<PcaCodec>(statistics, bits));
  return std::make_shared<CenteredKeys>(block_gtq_quantizer(statistics, transforms_->rope, bits, seed_),
                                        Centering::none);
}

std::shared_ptr<const KeyMethod> TensorMethod::base() const {
  if (method_ != nullptr) return method_;
  // The layers in between decide, wherever the fitted ones lie.
  const HeadFit& first = transforms_->heads.front();
  return fitted(first.layer, first.kv_head, spec_.bits);
}

std::optional<std::string> TensorMethod::unsupported_on(Space space) const {
  if (quantizer_ != nullptr) return quantizer_->unsupported_on(space);
  if (space == Space::cpu) return std::nullopt;
  if (!calibrated()) return "no CUDA kernels for codes that differ by layer, channel or sequence";
  if (spec_.quantizer.name != calibrated_name) return "no CUDA kernels for this quantizer";
  // Every head and width has kernels, or none.
  return CalibratedCodec(transforms_->heads.front().bits.front().parameters, {}, search_, code_)
      .unsupported_on(space);
}

std::int64_t TensorMethod::head_floats(const HeadFit& head) const {
  std::int64_t floats = 0;
  if (spec_.quantizer.name == calibrated_name) {
    for (const BitsFit& fit : head.bits) floats = std::max(floats, fit.parameters->decoder_floats());
    return floats;
  }
  if (spec_.quantizer.name == kvtc_name) return PcaCodec(*head.statistics, spec_.bits).stored_floats();
  return block_gtq_quantizer(*head.statistics, transforms_->rope, spec_.bits, seed_)->stored_floats();
}

StoredSize stored_size(const CodeLayout& layout, std::int64_t model_floats, std::int64_t tokens_per_code) {
  const auto share = [&](std::int64_t bits) {
    if (bits % tokens_per_code != 0) {
      throw Error(fmt::format(
          "{} tokens share {} bits of one kind, {} a token; valid: dims and groups of tokens that leave "
          "whole bits",
          tokens_per_code, bits, static_cast<double>(bits) / static_cast<double>(tokens_per_code)));
    }
    return bits / tokens_per_code;
  };
  StoredSize size;
  for (const CodeArray& array : layout.arrays) {
    for (const CodeField& field : array.fields) {
      const std::string name = field_kind_name(field.kind);
      const auto known = std::find_if(size.fields.begin(), size.fields.end(),
                                      [&](const auto& f) { return f.first == name; });
      if (known == size.fields.end()) {
        size.fields.emplace_back(name, share(field.bits));
      } else {
        known->second += share(field.bits);
      }
    }
  }
  size.bits_per_vector = share(8 * layout.bytes_per_vector());
  size.bits_per_value = layout.bits_per_value();
  size.model_floats = model_floats;
  return size;
}

}  // namespace rotorquant::evaluation
