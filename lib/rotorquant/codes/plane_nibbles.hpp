#pragma once
// Indices of up to 4 bits as nibbles, the form in which AVX-512 permutations look them up: register b of a
// vector holds the indices of its coordinates [128 b, 128 b + 128), that of 128 b + 16 k + lane in bits
// [4 k, 4 k + 4) of 32-bit lane `lane`. So a shift by 4 k brings sixteen indices to their lanes' lowest bits.
#include <cstdint>

#include "rotorquant/core/isa.hpp"

namespace rotorquant {

inline constexpr std::int64_t nibble_register_coordinates = 128;
inline constexpr std::int64_t nibble_register_bytes = 64;

constexpr std::int64_t nibble_bytes(std::int64_t dim) {
  return (dim + nibble_register_coordinates - 1) / nibble_register_coordinates * nibble_register_bytes;
}

// Whether kernels of this instruction set have nibbles_of_planes() here.
bool nibbles_supported(Isa isa);

// planes [rows, bits * plane_bytes(dim)] -> nibbles [rows, nibble_bytes(dim)] on whole cache lines, zeros
// beyond dim; bits 2..4. Valid until the thread's next call. Only where nibbles_supported().
const std::uint8_t* nibbles_of_planes(int bits, const std::uint8_t* planes, std::int64_t rows,
                                      std::int64_t dim);

}  // namespace rotorquant
