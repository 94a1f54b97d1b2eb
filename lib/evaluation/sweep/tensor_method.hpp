#pragma once
// How the keys or the values of a setting are coded, from the text of its specification.
//
// Beside the parameters of its quantizer, a specification may hold those of the sequence:
//   bits=N     its own width, in place of the sweep's
//   sinks=N    the first N tokens of the sequence in 16 bits
//   center=none|online|channel-mean   a vector, stored in 16 bits, that is subtracted before coding (cache/key_method.hpp)
// `rotorquant-calibrated` stands for keys coded by transforms that `rotorquant calibrate` fitted.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "evaluation/calibration/fit.hpp"
#include "evaluation/sweep/results.hpp"
#include "rotorquant/cache/key_method.hpp"
#include "rotorquant/quantizers/spec.hpp"

namespace rotorquant::evaluation {

inline constexpr char calibrated_name[] = "rotorquant-calibrated";

// The parameters above, and those of the calibrated quantizer, for `list`.
const std::vector<ParameterInfo>& sequence_parameters();
const std::vector<ParameterInfo>& calibrated_parameters();

struct TensorSpec {
  QuantizerSpec quantizer;  // without the parameters of the sequence
  int bits = 0;
  std::int64_t sinks = 0;
  Centering centering = Centering::none;

  bool calibrated() const { return quantizer.name == calibrated_name; }
};

// Errors: UsageError for what is malformed; the quantizer's own parameters are checked when it is built.
TensorSpec parse_tensor_spec(const std::string& text, int default_bits, std::int64_t default_sinks);

// Whether the text fixes its own width.
bool fixes_width(const QuantizerSpec& spec);

// The specification of values that goes with one of keys named alone.
QuantizerSpec values_of(const QuantizerSpec& keys);

// Fewest bits that this quantizer can have.
int least_bits(const TensorSpec& spec);

// The method of one tensor with one seed. Immutable; shared by threads.
class TensorMethod {
 public:
  // transforms: needed by calibrated keys alone.
  TensorMethod(const TensorSpec& spec, std::uint64_t seed, std::int64_t dim,
               std::shared_ptr<const TransformSet> transforms);

  // Calibrated methods differ by head, all others are the same everywhere. Errors: no transform of this layer, head or width.
  std::shared_ptr<const KeyMethod> at(std::int64_t layer, std::int64_t kv_head) const;
  std::int64_t sinks() const { return sinks_; }
  // Of the quantizer of vectors; null when calibrated.
  const Quantizer* quantizer() const { return quantizer_.get(); }

 private:
  std::int64_t sinks_;
  int bits_;
  CalibratedSearch search_;
  CalibratedCode code_;
  AdaptationOptions adaptation_;
  std::shared_ptr<const Quantizer> quantizer_;
  std::shared_ptr<const KeyMethod> method_;  // of quantizer_
  std::shared_ptr<const TransformSet> transforms_;
};

// Bits a vector by field, and numbers kept once per model.
StoredSize stored_size(const CodeLayout& layout, std::int64_t model_floats);

}  // namespace rotorquant::evaluation
