#pragma once
// How a vector's norm is stored beside its indices.
#include <cstdint>
#include <cstring>
#include <string>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"
#include "rotorquant/core/unit_factors.hpp"

namespace rotorquant {

enum class NormType {
  fp16,
  fp32,
  reference,  // fp32 of max(norm, 1e-8), as the reference implementation stores it
};

constexpr std::int64_t norm_bits(NormType type) {
  return type == NormType::fp16 ? 16 : 32;
}

// Refuses a norm that the type cannot hold; `row` names it.
inline void check_norm(NormType type, float norm, std::int64_t row) {
  if (type != NormType::fp16 || norm == 0.0F) return;
  if (norm >= half_overflow || norm <= half_rounds_to_zero) {
    throw Error("encode: row " + std::to_string(row) + " has norm " + std::to_string(norm) +
                ", outside the range of a 16-bit norm (6e-8 to 65504); valid: such rows with norm=fp32");
  }
}

inline void store_norm(NormType type, float norm, std::uint8_t* bytes) {
  if (type == NormType::fp16) {
    const std::uint16_t half = float_to_half(norm);
    std::memcpy(bytes, &half, sizeof half);
  } else {
    std::memcpy(bytes, &norm, sizeof norm);
  }
}

inline float load_norm(NormType type, const std::uint8_t* bytes) {
  if (type == NormType::fp16) {
    std::uint16_t half = 0;
    std::memcpy(&half, bytes, sizeof half);
    return half_to_float(half);
  }
  float norm = 0.0F;
  std::memcpy(&norm, bytes, sizeof norm);
  return norm;
}

}  // namespace rotorquant
