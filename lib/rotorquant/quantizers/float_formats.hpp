#pragma once
// Floating-point formats, each coordinate by itself: 16 bits as captured (`identity16`, the ceiling of any
// comparison) and OFP8 E4M3 (`fp8-e4m3`) with one scale for all vectors: code = e4m3(x / scale), decoded
// value = scale * code. Serving engines store keys and values so, with a scale of 1 or one fitted to a head
// (cache/sequence_fit.hpp).
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/quantizers/row_codec.hpp"

namespace rotorquant {

class HalfCodec final : public RowCodec {
 public:
  explicit HalfCodec(std::int64_t dim);

 private:
  void encode_row(const float* x, std::int64_t row, const Codes<Space::cpu>& code) const override;
  void decode_row(const ConstCodes<Space::cpu>& code, float* x) const override;
};

class E4m3Codec final : public RowCodec {
 public:
  // Magnitudes beyond 448 * scale saturate. scale > 0.
  explicit E4m3Codec(std::int64_t dim, float scale = 1.0F);

 private:
  void encode_row(const float* x, std::int64_t row, const Codes<Space::cpu>& code) const override;
  void decode_row(const ConstCodes<Space::cpu>& code, float* x) const override;

  float scale_;
};

QuantizerInfo identity16_quantizer();
QuantizerInfo e4m3_quantizer();

}  // namespace rotorquant
