#pragma once
// Principal components of keys before RoPE with allocated bit widths: the transform and quantizer of KVTC
// (arXiv 2511.01815), for each head by itself and without its entropy coder, so that every key takes the same
// bits.
//
//   y = V (x - mean) / sqrt(variances);  indices of the Lloyd-Max codebooks of N(0, 1), coordinate i at width w_i;
//   x^ = mean + V^T (sqrt(variances) y^)
//
// Widths 0..8 minimise sum variances_i D(w_i) (greedy, which for the convex D is what KVTC's dynamic program
// finds) and sum to b * dim + 16: exactly the bits of `turboquant` with its 16-bit norm, which this code does
// not need. Their planes follow one another without padding (codes/mixed_planes.hpp).
#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/codes/mixed_planes.hpp"
#include "rotorquant/quantizers/key_statistics.hpp"
#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

class PcaCodec final : public Quantizer {
 public:
  // bits 1..8.
  PcaCodec(const KeyStatistics& statistics, int bits);

  const CodeLayout& layout() const override { return layout_; }
  // The mean, the components and their deviations.
  std::int64_t stored_floats() const override { return dim() * (dim() + 2); }
  void encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const override;
  void decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const override;
  const std::vector<std::uint8_t>& widths() const { return widths_; }

 private:
  KeyStatistics statistics_;
  std::vector<std::uint8_t> widths_;  // [dim]
  MixedPlanes planes_;
  std::vector<Codebook> codebooks_;  // [8]: of widths 1..8
  CodeLayout layout_;
};

}  // namespace rotorquant
