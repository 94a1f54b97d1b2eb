#pragma once
// What scores of calibrated keys need of one head's codec, as the bytes that a block has in shared memory:
// the inverse transform as a right operand (hopper/wgmma.cuh), centroids, and what decoders of the codes
// need.
//
// Coordinates after the inverse transform come in the order of the pairs that turn together, in blocks of 64:
// first members at f, second ones at f + 32; those that do not turn are paired as they come. Numbers are fp16
// in units of KeyHead::unit.
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/cache/rope.hpp"
#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant::device {

// Planes of symbols (codes/mixed_planes.hpp), and the fields behind them.
struct KeyHead {
  int start[8];  // first bit of each plane
  int count[8];  // its bits: coordinates wider than it is
  int centroid_bit, centroid_bits, scale_bits;
  float scale_step;  // n = 2^((code - 2^(scale_bits - 1)) scale_step), in units
  float unit;
  int padding[3];
};
static_assert(sizeof(KeyHead) % 16 == 0);

template <int D>
struct HeadImage {
  static constexpr int operand = 0;
  // Where the inner indices 16 s .. 16 s + 15 of the 64 columns of block b begin.
  static __host__ __device__ constexpr int operand_place(int b, int s) {
    return (D / 64 * (s / 4) + b) * 8192 + s % 4 * 32;
  }
  static constexpr int centroids = 2 * D * D;
  // Centroids: two rows each. Of the first one, the sixteen bytes of lane t's columns 8 j + 2 t and 8 j + 2 t
  // + 1, j = 4 i .. 4 i + 3, are at 16 (4 i + t); in the second one neighbouring runs of 64 bytes change
  // places, so that of eight lanes four can read either.
  static constexpr int centroid_pitch = 2 * D;
  static constexpr int centroid_place(int column) {
    const int j = column / 8, t = column % 8 / 2;
    return 16 * (4 * (j / 4) + t) + 4 * (j % 4) + column % 2 * 2;
  }
  static constexpr int head(int count) { return centroids + 2 * count * centroid_pitch; }
  static constexpr int decoder(int count) { return head(count) + static_cast<int>(sizeof(KeyHead)); }
};

// Scalar levels. A coordinate of up to 4 bits has a code of four: of width 3 its index, of width 2 that and
// 8, of width 1 that and 12, without bits 14; of width 4 its index in a table of its own. Two codes, the
// first in the lower bits, name a pair of levels.
inline constexpr int pair_codes = 256;
inline constexpr int widest_paired = 4;
template <int D>
struct ScalarTables {
  std::uint32_t pairs[2][pair_codes];  // fp16; [1]: both of width 4
  // [c][k]: of coordinates 32 c .. 32 c + 31 in storage order, a bit each, those of more than k bits.
  std::uint32_t wider_than[D / 32][max_width];
  std::uint16_t levels[32 + 64 + 128 + 256];  // of widths 5..8
  std::uint32_t wide_levels[D];               // where those of each coordinate wider than 4 begin, in bytes
  int wide_count;
  int four_count;  // of coordinates of 4 bits and wider ones
  int padding[2];
};

// Trellis levels. What up to 4 bits decode to is in columns of 256 rows, by the symbol's upper bits over its
// register: of width 3; of width 2 in rows 0..127, of width 1 in rows 128..191, zeros in the last ones; of
// width 4 two columns.
inline constexpr int register_bits = 6;
struct TrellisPlace {
  std::uint16_t rank;  // among the coordinates with bits, in index order
  std::uint16_t width;
  std::uint16_t
      column;  // 0, 2: of the first words; 128: of the second ones, and 2 for symbols with the top bit
  std::uint16_t levels;  // of a coordinate wider than 4: where they begin among those behind the tables
};
template <int D>
struct TrellisTables {
  std::uint32_t levels[2][256];  // fp16, two columns a word
  TrellisPlace places[D];        // in storage order
  int used;                      // coordinates with bits
  int four_count;                // of 4 bits and wider ones
  int wide_count;                // wider than 4
  int padding;
};

void order_coordinates(const Rope& rope, int dim, std::vector<int>& order, std::vector<double>& turns);

// `centroids`: how many there is room for.
template <int D>
std::vector<std::uint8_t> scalar_head_image(const CalibratedCodec& codec, std::span<const int> order,
                                            int centroids);
template <int D>
std::vector<std::uint8_t> trellis_head_image(const CalibratedCodec& codec, std::span<const int> order,
                                             int centroids);

}  // namespace rotorquant::device
