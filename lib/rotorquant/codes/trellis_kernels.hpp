#pragma once
// The inner loops of trellis codes, once per instruction set (trellis_serial.cpp, trellis_avx2.cpp, trellis_avx512.cpp).
// The serial functions define the results; the others make the same float32 operations in the same order on every state,
// so that codes are bit for bit the same on every machine. Internal to lib/rotorquant/codes.
#include <cstddef>
#include <cstdint>

#include "rotorquant/core/isa.hpp"

namespace rotorquant::trellis {

// One coordinate of a Viterbi pass.
struct Step {
  const float* row;  // TrellisLevels::row of the cell of y: midpoints m [2^(M+1)], halves h [2^(M+1)]
  float y;
  float weight;  // multiplies the squared error of this coordinate
};

// Path costs stay near 0 in long vectors: after every so many steps of one pass their minimum is subtracted.
inline constexpr int steps_between_rebasing = 16;

// `count` steps of the Viterbi recursion, M fixed by the function. With r = register << 1 | lowest bit,
//   d[r]   = (|y - m[r]| - h[r])^2 * weight
//   a      = cost[q >> 1] + d[q],  b = cost[(q >> 1) + 2^(M-1)] + d[q + 2^M]
//   new cost[q] = min(a, b); survivor bit q = (b < a), the top bit of the register that led to q.
// cost [2^M] float32, 64-byte aligned, in and out. survivors [count, survivor_words(M)], bit q of a step's words.
using ForwardPass = void (*)(const Step* steps, int count, float* cost, std::uint32_t* survivors);

constexpr int survivor_words(int memory) { return memory <= 5 ? 1 : 1 << (memory - 5); }

ForwardPass forward_pass(int memory, Isa isa);

ForwardPass forward_pass_serial(int memory);
ForwardPass forward_pass_avx2(int memory);
ForwardPass forward_pass_avx512(int memory);  // nullptr where avx2 is as wide as the trellis

// A bit string in memory, little-endian: bit i is bit i % 8 of byte i / 8. No byte beyond `bytes` is read.
struct BitString {
  const std::uint8_t* data;
  std::size_t bytes;
};

// What decoding a block of the value format needs (trellis_value_format.hpp).
struct BlockDecode {
  BitString planes;                // `width` planes of `dim` bits; plane 0 reversed
  int dim;
  int memory;                      // 3 or 5
  int width;                       // 1..4
  const std::int8_t* levels;       // [2^(width - 1), 64]: row u holds levels[u, r], repeated when r has fewer values; 64-byte aligned
  const std::int16_t* pairs;       // [2^(width - 2) or 1, 64]: levels of u = 2p (low byte) and 2p + 1 (high byte); 64-byte aligned
  float scale;                     // value = level * scale
};

// values [dim], table_index [dim]: u << (memory+1) | r of every coordinate, without the bits of byte 1.
using DecodePlanes = void (*)(const BlockDecode& block, float* values, std::uint16_t* table_index);

void decode_planes_avx2(const BlockDecode& block, float* values, std::uint16_t* table_index);
void decode_planes_avx512(const BlockDecode& block, float* values, std::uint16_t* table_index);

}  // namespace rotorquant::trellis
