#pragma once
// How the keys of one head are coded, before a sequence is seen: what KeySequence needs to know of a
// quantizer of keys.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rotorquant/cache/sequence_fit.hpp"
#include "rotorquant/quantizers/calibrated.hpp"
#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

class KeyMethod {
 public:
  virtual ~KeyMethod() = default;

  // Bits of one code, the same for all sequences.
  virtual const CodeLayout& layout() const = 0;
  // Consecutive tokens that one code is of: 1, but for codes whose scales tokens share.
  virtual std::int64_t tokens_per_code() const { return 1; }
  std::int64_t dim() const { return layout().dim / tokens_per_code(); }
  // Whether keys are coded as they were before RoPE.
  virtual bool before_rope() const = 0;
  // keys [n, dim]: the first keys of the sequence from its token 0, sinks included, all that are known when
  // coding starts, before RoPE if before_rope(). `sinks` of them are kept apart and need no code.
  virtual SequenceQuantizer open(HostView<const float> keys, std::int64_t sinks) const = 0;
};

// What is subtracted from the keys of a sequence before coding. Softmax over keys does not see it; it is
// stored in fp16.
enum class Centering {
  none,
  online,        // the mean of the sequence's tokens 4..127 (adaptation_first_token, ..._last_token)
  channel_mean,  // the mean of all keys that are not sinks
};

// Any quantizer of vectors or fit of one, with centering.
class CenteredKeys final : public KeyMethod {
 public:
  CenteredKeys(std::shared_ptr<const SequenceFit> fit, Centering centering)
      : fit_(std::move(fit)), centering_(centering) {}
  CenteredKeys(std::shared_ptr<const Quantizer> quantizer, Centering centering)
      : CenteredKeys(std::make_shared<FixedFit>(std::move(quantizer)), centering) {}

  const CodeLayout& layout() const override { return fit_->layout(); }
  std::int64_t tokens_per_code() const override { return fit_->tokens_per_code(); }
  bool before_rope() const override { return false; }
  SequenceQuantizer open(HostView<const float> keys, std::int64_t sinks) const override;

 private:
  std::shared_ptr<const SequenceFit> fit_;
  Centering centering_;
};

// A quantizer of keys as they were before RoPE.
class KeysBeforeRope final : public KeyMethod {
 public:
  explicit KeysBeforeRope(std::shared_ptr<const Quantizer> quantizer) : quantizer_(std::move(quantizer)) {}

  const CodeLayout& layout() const override { return quantizer_->layout(); }
  bool before_rope() const override { return true; }
  SequenceQuantizer open(HostView<const float>, std::int64_t) const override { return {quantizer_, {}, {}}; }

 private:
  std::shared_ptr<const Quantizer> quantizer_;
};

// `rotorquant-calibrated`.
class CalibratedKeys final : public KeyMethod {
 public:
  CalibratedKeys(std::shared_ptr<const CalibratedParameters> parameters, AdaptationOptions adaptation = {},
                 CalibratedSearch search = {}, CalibratedCode code = {});

  const CodeLayout& layout() const override { return layout_; }
  bool before_rope() const override { return true; }
  SequenceQuantizer open(HostView<const float> keys, std::int64_t sinks) const override;

 private:
  std::shared_ptr<const CalibratedParameters> parameters_;
  AdaptationOptions adaptation_;
  CalibratedSearch search_;
  CalibratedCode code_;
  CodeLayout layout_;
};

}  // namespace rotorquant
