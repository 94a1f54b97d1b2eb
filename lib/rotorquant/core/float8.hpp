#pragma once
// OCP 8-bit floating point, E4M3 (OFP8 specification 1.0; "e4m3fn" elsewhere): 1 sign, 4 exponent (bias 7)
// and 3 mantissa bits, no infinity, NaN 0x7F, largest 448, least subnormal 2^-9. Rounding to nearest even;
// magnitudes beyond 448 saturate.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace rotorquant {

inline constexpr float e4m3_max = 448.0F;

// value: not NaN.
inline std::uint8_t float_to_e4m3(float value) {
  const auto sign = static_cast<std::uint8_t>((std::bit_cast<std::uint32_t>(value) >> 24) & 0x80U);
  const float magnitude = std::min(std::abs(value), e4m3_max);
  if (magnitude < 0x1p-6F) {
    // The last mantissa bit of 2^14 is the format's least subnormal, 2^-9, so that the addition rounds.
    const std::uint32_t shifted = std::bit_cast<std::uint32_t>(magnitude + 0x1p14F);
    return static_cast<std::uint8_t>(sign | (shifted - std::bit_cast<std::uint32_t>(0x1p14F)));
  }
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude);
  const std::uint32_t odd = (bits >> 20) & 1U;
  return static_cast<std::uint8_t>(sign | ((bits - (120U << 23) + 0x7FFFFU + odd) >> 20));
}

inline float e4m3_to_float(std::uint8_t code) {
  const std::uint32_t sign = (code & 0x80U) << 24;
  const std::uint32_t exponent = (code >> 3) & 0xFU;
  const std::uint32_t mantissa = code & 7U;
  if (exponent == 0) {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(static_cast<float>(mantissa) * 0x1p-9F) | sign);
  }
  if (exponent == 15 && mantissa == 7) return std::bit_cast<float>(sign | 0x7FC00000U);
  return std::bit_cast<float>(sign | ((exponent + 120U) << 23) | (mantissa << 20));
}

}  // namespace rotorquant
