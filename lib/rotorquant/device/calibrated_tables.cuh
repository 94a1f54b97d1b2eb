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

// copies: of centroids. A row has the sixteen bytes of lane t's columns 8 j + 2 t and 8 j + 2 t + 1, j = 4 i
// .. 4 i + 3, at 16 (4 i + t), so that four lanes read 64 bytes, half of the banks. Of two copies the second
// one has neighbouring runs of 64 bytes change places: eight lanes that read different copies never meet.
// Rows of one copy begin in either half of the banks.
template <int D, int copies>
struct HeadImage {
  static constexpr int operand = 0;
  // Where the inner indices 16 s .. 16 s + 15 of the 64 columns of block b begin.
  static __host__ __device__ constexpr int operand_place(int b, int s) {
    return (D / 64 * (s / 4) + b) * 8192 + s % 4 * 32;
  }
  static constexpr int centroids = 2 * D * D;
  static constexpr int centroid_copies = copies;
  static constexpr int centroid_pitch = copies == 2 ? 4 * D : 2 * D + 64;
  static constexpr int second_copy = 2 * D;
  static constexpr int centroid_place(int column) {
    const int j = column / 8, t = column % 8 / 2;
    return 16 * (4 * (j / 4) + t) + 4 * (j % 4) + column % 2 * 2;
  }
  static __host__ __device__ constexpr int head(int count) { return centroids + count * centroid_pitch; }
  static __host__ __device__ constexpr int decoder(int count) {
    return head(count) + static_cast<int>(sizeof(KeyHead));
  }
};
inline constexpr int scalar_centroid_copies = 2;
inline constexpr int trellis_centroid_copies = 1;

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
//
// Bits of a warp's keys are words of 32 keys: those of plane 0 by rank; two constants, zeros and ones, and
// those of the other planes.
inline constexpr int register_bits = 6;
inline constexpr int constant_words = 2;
struct alignas(16) TrellisPlace {
  std::uint16_t rank;  // among the coordinates with bits, in index order
  std::uint16_t
      column;  // 0, 2: of the first words; 128: of the second ones, and 2 for symbols with the top bit
  std::uint16_t upper[3];  // words of the symbol's next bits: planes 1, 2, 3, or constants
  std::uint16_t padding[3];
};
// A coordinate wider than 4 bits.
struct TrellisWide {
  std::uint16_t rank;
  std::uint16_t upper[7];     // words of planes 1..7; zeros where it has none
  std::uint32_t first_level;  // among the levels behind the tables
};
template <int D>
struct TrellisTables {
  std::uint32_t levels[2][256];  // fp16, two columns a word
  TrellisPlace places[D];        // in storage order
  int used;                      // coordinates with bits
  int four_count;                // of 4 bits and wider ones
  int wide_count;                // wider than 4: as many TrellisWide follow
  int wide_levels;               // where the levels of widths 5..8 are, in bytes from the tables' begin
};

// `shared`: how many of the bytes a block copies.
struct HeadBytes {
  std::vector<std::uint8_t> bytes;
  int shared;
};

void order_coordinates(const Rope& rope, int dim, std::vector<int>& order, std::vector<double>& turns);

// `centroids`: how many there is room for.
template <int D>
HeadBytes scalar_head_image(const CalibratedCodec& codec, std::span<const int> order, int centroids);
template <int D>
HeadBytes trellis_head_image(const CalibratedCodec& codec, std::span<const int> order, int centroids);

}  // namespace rotorquant::device
