#pragma once
// The inner loops of trellis codes, once per instruction set (trellis_serial.cpp, trellis_avx2.cpp,
// trellis_avx512.cpp). The serial functions define the results; the others make the same float32 operations
// in the same order on every state, so that codes are bit for bit the same on every machine. Internal to
// lib/rotorquant/codes.
#include <cstddef>
#include <cstdint>

#include "rotorquant/codes/bit_string.hpp"
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

// Coordinates on each side of the seam in the first pass: four constraint lengths at M = 5, beyond which
// survivors have merged.
inline constexpr int seam_context = 20;
// With so few used coordinates trying every register costs no more than the usual two passes over a long
// vector.
inline constexpr int exhaustive_used = 12;
static_assert(exhaustive_used < steps_between_rebasing, "costs of different passes must be comparable");

// `count` steps of the Viterbi recursion; M = 3 or 5 is fixed by the function. With r = register << 1 |
// lowest bit,
//   d[r]   = (|y - m[r]| - h[r])^2 * weight
//   a      = cost[q >> 1] + d[q],  b = cost[(q >> 1) + 2^(M-1)] + d[q + 2^M]
//   new cost[q] = min(a, b); survivor bit q = (b < a), the top bit of the register that led to q.
// cost [2^M] float32, 64-byte aligned, in and out. survivors [count], bit q of a word.
using ForwardPass = void (*)(const Step* steps, int count, float* cost, std::uint32_t* survivors);

ForwardPass forward_pass(int memory, Isa isa);

ForwardPass forward_pass_serial(int memory);
ForwardPass forward_pass_avx2(int memory);
ForwardPass forward_pass_avx512(int memory);  // nullptr where avx2 is as wide as the trellis

// The planes of one vector in the value format (trellis_value_format.hpp) and the levels they choose among.
struct PlaneDecode {
  BitString planes;  // `width` planes of `dim` bits each, plane 0 reversed
  int dim;
  // levels[u, r] of the table, with rows of 64 (r beyond the memory's range unused): [2^(width-1), 64],
  // 64-byte aligned.
  const std::int8_t* levels;
  // The same, u in pairs: low byte levels[2p, r], high byte levels[2p + 1, r]; [max(1, 2^(width-2)), 64],
  // 64-byte aligned. Width 1 has its only row in both bytes.
  const std::int16_t* pairs;
  float scale;  // value = level * scale
};

// Decodes every coordinate at `width` bits: values [dim], and table_index [dim, rounded up to a
// multiple of 32] = u << (memory+1) | r.
using PlaneDecoder = void (*)(const PlaneDecode& input, float* values, std::uint16_t* table_index);

// nullptr for wider symbols and for the serial instruction set.
inline constexpr int max_decoder_width = 4;
PlaneDecoder plane_decoder(int memory, int width, Isa isa);

PlaneDecoder plane_decoder_avx2(int memory, int width);
PlaneDecoder plane_decoder_avx512(int memory, int width);

}  // namespace rotorquant::trellis
