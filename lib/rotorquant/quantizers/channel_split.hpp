#pragma once
// A vector cut in two by channel, each part coded by a quantizer of its own: with one bit more for the
// channels of most energy, the outlier channels, this gives the fractional widths of TurboQuant (arXiv
// 2504.19874, section 4.3: 2.5 and 3.5 bits) and of QJL (arXiv 2406.03482, section 4.1). Which channels these
// are is known to the decoder: cache/sequence_fit.hpp stores it.
#include <memory>
#include <span>
#include <vector>

#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

// The arrays of both parts, one after the other; dim is the sum of theirs.
CodeLayout split_layout(const CodeLayout& first, const CodeLayout& second);

class ChannelSplit final : public Quantizer {
 public:
  // channels [first.dim()]: ascending, the coordinates that `first` codes; `second` codes all others.
  ChannelSplit(std::shared_ptr<const Quantizer> first, std::shared_ptr<const Quantizer> second,
               std::span<const std::int64_t> channels);

  const CodeLayout& layout() const override { return layout_; }
  std::int64_t stored_floats() const override { return first_->stored_floats() + second_->stored_floats(); }
  void encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const override;
  void decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const override;

 private:
  // The codes of the second part, as its quantizer expects them.
  template <typename Byte>
  CodesView<Byte, Space::cpu> second_part(const CodesView<Byte, Space::cpu>& codes) const;

  std::shared_ptr<const Quantizer> first_;
  std::shared_ptr<const Quantizer> second_;
  std::vector<std::int64_t> order_;  // [dim]: the channels of the first part, then those of the second
  CodeLayout layout_;
};

}  // namespace rotorquant
