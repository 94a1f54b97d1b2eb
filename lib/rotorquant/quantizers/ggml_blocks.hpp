#pragma once
// ggml's block formats, byte for byte (ggml-common.h, ggml-quants.c; the types of llama.cpp's --cache-type-k
// and -v). A vector is cut into blocks of 32 values x, each stored with its own 16-bit scale s:
//
//   q4_0   18 bytes: s = m / -8 with m the value of greatest magnitude (the first of equals), then 16 bytes of which byte j holds the
//          indices of values j (low half) and j + 16; index = min(15, trunc(x / s + 8.5)), decoded value (index - 8) s
//   q8_0   34 bytes: s = max |x| / 127, then 32 signed bytes; byte = round(x / s), halves away from 0; decoded value byte * s
//
// Indices come from the scale before it is rounded to 16 bits, as in ggml.
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/quantizers/row_codec.hpp"

namespace rotorquant {

inline constexpr std::int64_t ggml_block_values = 32;

enum class GgmlFormat { q4_0, q8_0 };

class GgmlBlocks final : public RowCodec {
 public:
  // dim: a multiple of ggml_block_values.
  GgmlBlocks(GgmlFormat format, std::int64_t dim);

 private:
  void encode_row(const float* x, std::int64_t row, const Codes<Space::cpu>& code) const override;
  void decode_row(const ConstCodes<Space::cpu>& code, float* x) const override;
  std::int64_t block_bytes() const;

  GgmlFormat format_;
};

QuantizerInfo ggml_quantizer(GgmlFormat format);

}  // namespace rotorquant
