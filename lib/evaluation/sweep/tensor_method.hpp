#pragma once
// How the keys or the values of a setting are coded, from the text of its specification.
//
// Beside the parameters of its quantizer, a specification may hold those of the sequence:
//   bits=N     its own width, in place of the sweep's
//   sinks=N    the first N tokens of the sequence in 16 bits
//   window=N   the most recent N tokens in 16 bits; queries see them so (cache/key_sequence.hpp)
//   center=none|online|channel-mean   a vector, stored in 16 bits, that is subtracted before coding (cache/key_method.hpp)
//   outliers=N the N channels of greatest energy at one bit more, coded apart from the others (cache/sequence_fit.hpp)
//   edge_layers=N, edge_bits=B   B bits in the model's first N and last N layers
// `rotorquant-calibrated`, and its rivals `kvtc` and `block-gtq`, stand for keys coded by what `rotorquant
// calibrate` fitted.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/calibration/fit.hpp"
#include "evaluation/sweep/results.hpp"
#include "rotorquant/cache/key_method.hpp"
#include "rotorquant/cache/key_sequence.hpp"
#include "rotorquant/quantizers/spec.hpp"

namespace rotorquant::evaluation {

inline constexpr char calibrated_name[] = "rotorquant-calibrated";
inline constexpr char kvtc_name[] = "kvtc";
inline constexpr char block_gtq_name[] = "block-gtq";

// The parameters above, for `list`.
const std::vector<ParameterInfo>& sequence_parameters();

// A method of keys that is fitted to captured data, by name.
struct CalibratedInfo {
  std::string name;
  std::string summary;  // one line
  std::string source;
  std::string values;  // specification of the values that go with it
  std::vector<ParameterInfo> parameters;
  bool on_gpu = false;  // whether GPUs run it as it is by default
};

const std::vector<CalibratedInfo>& calibrated_registry();
// Nothing when no calibrated method has this name.
const CalibratedInfo* find_calibrated(const std::string& name);

struct TensorSpec {
  QuantizerSpec quantizer;  // without the parameters of the sequence
  int bits = 0;
  SixteenBitTokens sixteen_bits;
  Centering centering = Centering::none;
  std::int64_t outliers = 0;
  std::int64_t edge_layers = 0;
  int edge_bits = 0;

  bool calibrated() const { return find_calibrated(quantizer.name) != nullptr; }
};

// Errors: UsageError for what is malformed; the quantizer's own parameters are checked when it is built.
TensorSpec parse_tensor_spec(const std::string& text, int default_bits, std::int64_t default_sinks);

// Whether the text fixes its own width, or its quantizer has one width alone.
bool fixes_width(const QuantizerSpec& spec);

// The specification of values that goes with one of keys named alone.
QuantizerSpec values_of(const QuantizerSpec& keys);

// Why this specification cannot have its width, or "".
std::string width_refusal(const TensorSpec& spec);

// KIVI codes keys and values differently.
enum class TensorRole { keys, values };

// What one tensor's method is made for.
struct TensorContext {
  std::uint64_t seed = 0;
  std::int64_t dim = 0;
  std::shared_ptr<const TransformSet> transforms;  // needed by calibrated keys alone
  TensorRole role = TensorRole::keys;
  std::int64_t num_layers = 0;            // of the model; needed where edge layers have a width of their own
  std::optional<int> gpu = std::nullopt;  // where quantizers with device code run; nothing: on the CPU
};

// The method of one tensor with one seed. Immutable; shared by threads.
class TensorMethod {
 public:
  TensorMethod(const TensorSpec& spec, const TensorContext& context);

  // Methods differ by head where they are calibrated, and by layer where edge layers have more bits. Errors:
  // no transform of this layer, head or width.
  std::shared_ptr<const KeyMethod> at(std::int64_t layer, std::int64_t kv_head) const;
  SixteenBitTokens sixteen_bits() const { return spec_.sixteen_bits; }
  bool calibrated() const { return spec_.calibrated(); }
  std::string quantizer_text() const { return spec_.quantizer.text(); }
  // Otherwise all seeds give the same codes.
  bool depends_on_seed() const;
  // Numbers that a decoder keeps for one head, where calibrated.
  std::int64_t head_floats(const HeadFit& head) const;
  // The method whose bits are those of the setting: of layers that are not at the edge and, where heads
  // differ, of the first fitted one.
  std::shared_ptr<const KeyMethod> base() const;
  // The quantizer of vectors where it is the same for all layers, channels and sequences; otherwise null.
  const Quantizer* quantizer() const { return quantizer_.get(); }
  // Why this method has no code path in `space`, or nothing.
  std::optional<std::string> unsupported_on(Space space) const;
  // Numbers kept once per model, unless calibrated.
  std::int64_t model_floats() const { return model_floats_; }

 private:
  void read_calibrated(const ParameterReader& reader);
  std::shared_ptr<const KeyMethod> build_method(int bits, const TensorContext& context);
  std::shared_ptr<const SequenceFit> build_fit(int bits, const TensorContext& context);
  std::shared_ptr<const KeyMethod> fitted(std::int64_t layer, std::int64_t kv_head, int bits) const;
  bool at_edge(std::int64_t layer) const;

  TensorSpec spec_;
  std::uint64_t seed_;
  std::int64_t num_layers_;
  std::optional<int> gpu_;
  CalibratedSearch search_;
  CalibratedCode code_;
  AdaptationOptions adaptation_;
  std::shared_ptr<const KeyMethod> method_;
  std::shared_ptr<const KeyMethod> edge_method_;
  std::shared_ptr<const Quantizer> quantizer_;
  std::int64_t model_floats_ = 0;
  std::shared_ptr<const TransformSet> transforms_;
};

// Bits a vector by field, and numbers kept once per model. A code of several tokens is shared out among them;
// an Error where that leaves a rest.
StoredSize stored_size(const CodeLayout& layout, std::int64_t model_floats, std::int64_t tokens_per_code = 1);

}  // namespace rotorquant::evaluation
