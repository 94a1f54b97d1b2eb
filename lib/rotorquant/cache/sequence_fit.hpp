#pragma once
// How the vectors of one head and sequence are coded once a method knows its first keys: by a quantizer that
// is the same everywhere, or by one that a few measured numbers, stored with the sequence, complete.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

// Something stored once for each head and sequence.
struct SideField {
  std::string name;
  std::int64_t bits;
};

// A quantizer fitted to one sequence: keys less `centre` (empty: nothing) are coded.
struct SequenceQuantizer {
  std::shared_ptr<const Quantizer> quantizer;
  std::vector<float> centre;  // [dim], as stored
  std::vector<SideField> side;
};

class SequenceFit {
 public:
  virtual ~SequenceFit() = default;

  // Bits of one code, the same for all sequences.
  virtual const CodeLayout& layout() const = 0;
  // Consecutive tokens that one code is of; layout().dim is that many times the head dimension.
  virtual std::int64_t tokens_per_code() const { return 1; }
  // keys [n, dim]: the sequence's first keys, centred and without sinks.
  virtual SequenceQuantizer fit(HostView<const float> keys) const = 0;
};

// One quantizer for all sequences.
class FixedFit final : public SequenceFit {
 public:
  explicit FixedFit(std::shared_ptr<const Quantizer> quantizer, std::int64_t tokens_per_code = 1)
      : quantizer_(std::move(quantizer)), tokens_per_code_(tokens_per_code) {}

  const CodeLayout& layout() const override { return quantizer_->layout(); }
  std::int64_t tokens_per_code() const override { return tokens_per_code_; }
  SequenceQuantizer fit(HostView<const float>) const override { return {quantizer_, {}, {}}; }

 private:
  std::shared_ptr<const Quantizer> quantizer_;
  std::int64_t tokens_per_code_;
};

// The channels of greatest energy by `outlier`, all others by `rest` (quantizers/channel_split.hpp); which
// ones they are is stored as one bit a channel.
class OutlierChannels final : public SequenceFit {
 public:
  OutlierChannels(std::shared_ptr<const Quantizer> outlier, std::shared_ptr<const Quantizer> rest);

  const CodeLayout& layout() const override { return layout_; }
  SequenceQuantizer fit(HostView<const float> keys) const override;

 private:
  std::shared_ptr<const Quantizer> outlier_;
  std::shared_ptr<const Quantizer> rest_;
  CodeLayout layout_;
};

// OFP8 E4M3 with one scale for the head, stored in 32 bits: the greatest magnitude of its first keys becomes
// the format's greatest value. Later keys beyond it saturate.
class HeadScaledE4m3 final : public SequenceFit {
 public:
  explicit HeadScaledE4m3(std::int64_t dim);

  const CodeLayout& layout() const override { return unscaled_->layout(); }
  SequenceQuantizer fit(HostView<const float> keys) const override;

 private:
  std::shared_ptr<const Quantizer> unscaled_;
};

}  // namespace rotorquant
