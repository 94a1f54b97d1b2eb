#pragma once
// Between bit planes and nibbles: plane j holds bit j of 32 indices; nibble word k holds those of coordinates
// k, 4 + k, 8 + k, ..., four bits each, from the lowest on. Both ways are the same exchange, bit 4 i + k of
// word j with bit 4 i + j of word k.
#include <cstdint>

namespace rotorquant::device {

// Byte i of the result is byte (selector >> 4 i) mod 8 of high:low. Nibbles of the selector are below 8.
__device__ __forceinline__ std::uint32_t permute_bytes(std::uint32_t low, std::uint32_t high,
                                                       std::uint32_t selector) {
  std::uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// Where mask has ones, bits of a, else of b.
__device__ __forceinline__ std::uint32_t select_bits(std::uint32_t mask, std::uint32_t a, std::uint32_t b) {
  std::uint32_t result;  // one instruction, where the compiler makes two of the usual expression
  asm("lop3.b32 %0, %1, %2, %3, 0xCA;" : "=r"(result) : "r"(mask), "r"(a), "r"(b));
  return result;
}

__device__ __forceinline__ void exchange_nibbles(std::uint32_t (&word)[4]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t a = word[i], b = word[i + 2];
    word[i] = select_bits(0x33333333U, a, b << 2);
    word[i + 2] = select_bits(0x33333333U, a >> 2, b);
  }
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const std::uint32_t a = word[i], b = word[i + 1];
    word[i] = select_bits(0x55555555U, a, b << 1);
    word[i + 1] = select_bits(0x55555555U, a >> 1, b);
  }
}

}  // namespace rotorquant::device
