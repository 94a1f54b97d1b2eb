#include "rotorquant/quantizers/float_formats.hpp"

#include <cmath>
#include <cstring>
#include <string>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/float8.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant {

HalfCodec::HalfCodec(std::int64_t dim) {
  layout_ = {dim, {{"values", {{FieldKind::index, 16 * dim}}}}};
}

void HalfCodec::encode_row(const float* x, std::int64_t row, const Codes<Space::cpu>& code) const {
  for (std::int64_t c = 0; c < dim(); ++c) {
    const std::uint16_t half = float_to_half(x[c]);
    if (!std::isfinite(half_to_float(half))) {
      throw Error("encode: row " + std::to_string(row) + ", coordinate " + std::to_string(c) + " is " +
                  std::to_string(x[c]) + "; valid: magnitudes up to 65504, the range of 16 bits");
    }
    std::memcpy(code.arrays[0] + 2 * c, &half, sizeof half);
  }
}

void HalfCodec::decode_row(const ConstCodes<Space::cpu>& code, float* x) const {
  for (std::int64_t c = 0; c < dim(); ++c) {
    std::uint16_t half = 0;
    std::memcpy(&half, code.arrays[0] + 2 * c, sizeof half);
    x[c] = half_to_float(half);
  }
}

E4m3Codec::E4m3Codec(std::int64_t dim, float scale) : scale_(scale) {
  layout_ = {dim, {{"values", {{FieldKind::index, 8 * dim}}}}};
}

void E4m3Codec::encode_row(const float* x, std::int64_t, const Codes<Space::cpu>& code) const {
  for (std::int64_t c = 0; c < dim(); ++c) code.arrays[0][c] = float_to_e4m3(x[c] / scale_);
}

void E4m3Codec::decode_row(const ConstCodes<Space::cpu>& code, float* x) const {
  for (std::int64_t c = 0; c < dim(); ++c) x[c] = scale_ * e4m3_to_float(code.arrays[0][c]);
}

QuantizerInfo identity16_quantizer() {
  QuantizerInfo info{"identity16",
                     "16-bit floating point as captured: the ceiling",
                     "IEEE 754 binary16",
                     {},
                     "identity16",
                     16,
                     [](const ParameterReader&, const BuildRequest& request) {
                       return std::make_shared<HalfCodec>(request.dim);
                     }};
  info.max_bits = info.min_bits;
  info.seeded = false;
  return info;
}

QuantizerInfo e4m3_quantizer() {
  QuantizerInfo info{
      "fp8-e4m3",
      "8-bit floating point, each coordinate by itself",
      "OCP OFP8 specification 1.0",
      {{"scale", "none|head", "none",
        "head: the greatest magnitude of a head's first keys becomes the greatest value of the format"}},
      "fp8-e4m3",
      8,
      [](const ParameterReader& parameters, const BuildRequest& request) {
        if (parameters.choice("scale") == "head") {
          throw UsageError(
              "quantizer 'fp8-e4m3': scale = 'head' is measured on a sequence; valid for single vectors: "
              "none");
        }
        return std::make_shared<E4m3Codec>(request.dim);
      }};
  info.max_bits = info.min_bits;
  info.seeded = false;
  return info;
}

}  // namespace rotorquant
