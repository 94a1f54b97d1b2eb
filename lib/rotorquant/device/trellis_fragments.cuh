#pragma once
// Trellis codes (codes/trellis_value_format.hpp, memory 5) as operands of tensor-core products. Inner
// products do not mind the order of their terms, so that each lane takes consecutive coordinates, whose
// registers overlap: two of them, t and t + 1 with t even, are decided by seven bits of plane 0 and two bits
// of each other plane, and come from one look-up in shared memory.
//
//   index = window | (bits t and t + 1 of plane k) << (7 + 2 (k - 1)), k = 1 .. bits - 1,
//   in the table of pairs whose first coordinate has one bit more: | that bit << (7 + 2 (bits - 1)).
//
// bits 2..4, D 64 or 128.
#include <cstdint>

#include "rotorquant/device/nibbles.cuh"
#include "rotorquant/device/trellis_tables.cuh"

namespace rotorquant::device {

inline constexpr int pair_window_bits = 7;

// How many pairs there are of plain symbols; with a wider first one twice as many.
template <int bits>
inline constexpr int trellis_pairs = 1 << (pair_window_bits + 2 * (bits - 1));

// entry(u, r, u', r') for each pair of plain symbols, or with a wider first one.
template <int bits, typename Entry>
void for_each_pair(bool wide, const Entry& entry) {
  for (int i = 0; i < (wide ? 2 : 1) * trellis_pairs<bits>; ++i) {
    const int window = i % (1 << pair_window_bits);
    int u[2] = {i / trellis_pairs<bits> << (bits - 1), 0};
    for (int k = 0; k < bits - 1; ++k) {
      u[0] |= ((i >> (pair_window_bits + 2 * k)) & 1) << k;
      u[1] |= ((i >> (pair_window_bits + 2 * k + 1)) & 1) << k;
    }
    entry(i, u[0], window >> 1, u[1], window & 63);
  }
}

// Bit `from` to bit `to`, its neighbours with it.
__device__ __forceinline__ std::uint32_t shift_bits(std::uint32_t word, int from, int to) {
  return from >= to ? word >> (from - to) : word << (to - from);
}
__device__ __forceinline__ std::uint32_t half_word(const std::uint8_t* at) {
  return *reinterpret_cast<const std::uint16_t*>(at);
}
__device__ __forceinline__ std::uint32_t join_halves(std::uint32_t low, std::uint32_t high) {
  return permute_bytes(low, high, 0x5410);
}

template <int D, int bits>
inline constexpr int trellis_row_bytes = trellis_header_bytes + bits* D / 8;

// Two runs of 16 coordinates, run h in bits 16 h .. 16 h + 15 of the planes. Where runs are shorter than 16
// or there is but one, the other bits are not looked at.
template <int bits>
struct TrellisRuns {
  std::uint32_t
      string[2];  // plane 0 of a run in bits 0 .. 15, reversed; above them what comes before the run
  std::uint32_t plane[bits - 1];  // planes 1 ..; planes 1 and 2 after `interleave`
  std::uint32_t extra;            // of wider symbols: bits 16 h ..

  // Planes 1 and 2 become nibbles of the coordinates t and t + 1: for t mod 4 = 0 in the first, for 2 in the
  // second.
  __device__ __forceinline__ void interleave() {
    if constexpr (bits > 2) {
      constexpr std::uint32_t low = 0x33333333U;
      const std::uint32_t first = plane[0], second = plane[1];
      plane[0] = (first & low) | ((second << 2) & ~low);
      plane[1] = ((first >> 2) & low) | (second & ~low);
    }
  }

  // Where the pair c, c + 1 (c even) of run h is in a table of entries of 2^entry bytes; `wide`: the bit of
  // `extra` that is c's, or -1. run: coordinates of a run.
  template <int entry, int run>
  __device__ __forceinline__ std::uint32_t offset(int h, int c, int wide) const {
    constexpr int upper = pair_window_bits + entry;
    std::uint32_t at = shift_bits(string[h], run - 2 - c, entry) & (0x7FU << entry);
    if constexpr (bits == 2) {
      at |= shift_bits(plane[0], 16 * h + c, upper) & (0x3U << upper);
    } else {
      at |= shift_bits(plane[c / 2 % 2], 16 * h + c / 4 * 4, upper) & (0xFU << upper);
    }
    if constexpr (bits == 4) at |= shift_bits(plane[2], 16 * h + c, upper + 4) & (0x3U << (upper + 4));
    if (wide >= 0) {
      constexpr int top = upper + 2 * (bits - 1);
      at |= shift_bits(extra, wide, top) & (1U << top);
    }
    return at;
  }
};

// The quarter t of a key's coordinates: the B operand of a product, lane (g, t) for key g. D = 128: one key,
// both runs. D = 64: run 0, and run 1 of a second key eight rows further.
template <int D, int bits>
struct TrellisQuarters : TrellisRuns<bits> {
  static constexpr int keys = D == 64 ? 2 : 1;

  // row: of the first key. Of D = 64 `second` says whether the second one is wanted.
  __device__ __forceinline__ void load(const std::uint8_t* row, int t, bool second) {
    constexpr int bytes = D / 8;  // of a plane
    const std::uint8_t* const planes = row + trellis_header_bytes;
    if constexpr (D == 64) {
      const std::uint8_t* const other = planes + (second ? 8 : 0) * trellis_row_bytes<D, bits>;
#pragma unroll
      for (int h = 0; h < (second ? 2 : 1); ++h) {
        const std::uint8_t* const own = h == 0 ? planes : other;
        this->string[h] = join_halves(half_word(own + 6 - 2 * t), half_word(own + (8 - 2 * t) % bytes));
      }
#pragma unroll
      for (int k = 0; k < bits - 1; ++k) {
        const int at = (k + 1) * bytes + 2 * t;
        this->plane[k] =
            second ? join_halves(half_word(planes + at), half_word(other + at)) : half_word(planes + at);
      }
      this->extra = (second ? join_halves(row[1], other[-1]) : row[1]) >> (2 * t);
    } else {
      const std::uint32_t last = half_word(planes + 12 - 4 * t), middle = half_word(planes + 14 - 4 * t),
                          above = half_word(planes + (16 - 4 * t) % bytes);
      this->string[0] = join_halves(middle, above);
      this->string[1] = join_halves(last, middle);
#pragma unroll
      for (int k = 0; k < bits - 1; ++k) {
        const int at = (k + 1) * bytes + 4 * t;
        this->plane[k] = join_halves(half_word(planes + at), half_word(planes + at + 2));
      }
      this->extra = static_cast<std::uint32_t>(row[1]) >> (2 * t);
    }
    this->interleave();
  }

  // The bit of `extra` that widens coordinate c of run h, or -1.
  static __device__ constexpr int wide(int h, int c) {
    if (D == 64) return c % 8 == 4 ? 16 * h + c / 8 : -1;
    return c == 4 ? h : -1;
  }
};

// The eighth g of a key's coordinates.
template <int D, int bits>
struct TrellisEighth : TrellisRuns<bits> {
  static constexpr int run = D / 8;
  __device__ __forceinline__ void load(const std::uint8_t* row, int g) {
    constexpr int bytes = D / 8;
    const std::uint8_t* const planes = row + trellis_header_bytes;
    if constexpr (D == 64) {
      this->string[0] = planes[7 - g] | planes[(8 - g) % bytes] << 8;
#pragma unroll
      for (int k = 0; k < bits - 1; ++k) this->plane[k] = planes[(k + 1) * bytes + g];
    } else {
      this->string[0] = join_halves(half_word(planes + 14 - 2 * g), half_word(planes + (16 - 2 * g) % bytes));
#pragma unroll
      for (int k = 0; k < bits - 1; ++k) this->plane[k] = half_word(planes + (k + 1) * bytes + 2 * g);
    }
    this->extra = static_cast<std::uint32_t>(row[1]) >> g;
    this->interleave();
  }
  static __device__ constexpr int wide(int c) {
    return c == 4 ? 0 : -1;
  }
};

}  // namespace rotorquant::device
