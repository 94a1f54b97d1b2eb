#pragma once
// The products of integer_product.hpp on tensor cores that multiply bytes.
//
// An int16 is 256 h + l with a signed byte h and an unsigned byte l, so that a product of two is 65536 h h' +
// 256 (h l' + l h') + l l': four products of bytes, whose sums over a chunk are put together modulo 2^32. The
// sum itself stays in int32 (integer_product.hpp), so that it is exact whatever its parts do.
#include <cstdint>

#include "evaluation/metrics/integer_product.hpp"
#include "rotorquant/device/byte_products.cuh"

namespace rotorquant::evaluation::device {

inline constexpr int tile_rows = 32;  // of the left operand, which one warp multiplies with a panel

// Consecutive rows of a head's block, and where their pairs with keys lie.
struct RowTile {
  std::int64_t pairs;   // of its first row, in products and probabilities
  std::int32_t first;   // row
  std::int32_t rows;    // 1 .. tile_rows
  std::int32_t keys;    // the most that a row of the tile sees
  std::int32_t stride;  // of its pairs
};

// The left operand: rows [rows, stride], or a tile's pairs where stride is 0; scales [rows, scale_stride].
struct DeviceRows {
  const std::int16_t* values;
  std::int64_t stride;
  const float* scales;
  std::int32_t scale_stride;
};

// The right operand as IntegerPanels holds it.
struct DevicePanels {
  const std::int16_t* values;
  const float* scales;
  std::int32_t depth;
  std::int32_t padded_cols;
};

// Four consecutive elements as bytes.
struct SplitBytes {
  std::uint32_t high;
  std::uint32_t low;
};

__device__ __forceinline__ SplitBytes split(std::uint32_t first, std::uint32_t second) {
  return {__byte_perm(first, second, 0x7531), __byte_perm(first, second, 0x6420)};
}

using rotorquant::device::multiply_bytes;

// The sums of one chunk for a tile and a panel, in the layout of mma's accumulators: [half of the rows][eight
// columns].
struct ChunkSums {
  std::int32_t high[2][4][4];
  std::int32_t middle[2][4][4];
  std::int32_t low[2][4][4];

  __device__ __forceinline__ std::int32_t at(int half, int block, int i) const {
    return static_cast<std::int32_t>((static_cast<std::uint32_t>(high[half][block][i]) << 16) +
                                     (static_cast<std::uint32_t>(middle[half][block][i]) << 8) +
                                     static_cast<std::uint32_t>(low[half][block][i]));
  }
};

// One warp: the 32 rows of a tile times the 32 columns of panel `panel`, over the first `depth` rows of b.
// `row_of(r)` gives row r of a, 0 .. 31; a row holds zeros from depth to the next multiple of 16. store(r, c,
// x): c a column of the panel, called for every r.
template <typename RowOf, typename ScaleOf, typename Store>
__device__ __forceinline__ void multiply_tile(RowOf row_of, ScaleOf scale_of, int depth,
                                              const DevicePanels& b, int panel, Store store) {
  constexpr int width = static_cast<int>(integer_panel_width), chunk_size = static_cast<int>(chunk_depth);
  const int lane = static_cast<int>(threadIdx.x) % 32, group = lane / 4, member = lane % 4;
  const std::int16_t* rows[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) rows[i] = row_of(group + 8 * i);
  float totals[2][4][4];
  for (int chunk = 0; chunk * chunk_size < depth; ++chunk) {
    const int begin = chunk * chunk_size;
    const int panel_depth = (min(chunk_size, b.depth - begin) + 1) / 2 * 2;
    const int end = min(chunk_size, (depth - begin + 15) / 16 * 16);
    const auto* const pairs = reinterpret_cast<const std::uint32_t*>(
        b.values + static_cast<std::int64_t>(begin) * b.padded_cols + panel * panel_depth * width);
    ChunkSums sums = {};
    for (int k = 0; k < end; k += 32) {
      std::uint32_t a_high[2][4], a_low[2][4];
#pragma unroll
      for (int part = 0; part < 2; ++part) {  // k .. k + 15, k + 16 .. k + 31
        const int at = k + 16 * part + 4 * member;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          uint2 words = {0, 0};
          if (k + 16 * part < end) words = *reinterpret_cast<const uint2*>(rows[i] + begin + at);
          const SplitBytes bytes = split(words.x, words.y);
          a_high[i / 2][2 * part + i % 2] = bytes.high;
          a_low[i / 2][2 * part + i % 2] = bytes.low;
        }
      }
#pragma unroll
      for (int block = 0; block < 4; ++block) {
        std::uint32_t b_high[2], b_low[2];
#pragma unroll
        for (int part = 0; part < 2; ++part) {
          const int pair = (k + 16 * part + 4 * member) / 2;
          const std::uint32_t* const word = pairs + pair * width + 8 * block + group;
          const SplitBytes bytes =
              split(2 * pair < panel_depth ? word[0] : 0, 2 * pair + 2 < panel_depth ? word[width] : 0);
          b_high[part] = bytes.high;
          b_low[part] = bytes.low;
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          multiply_bytes<true, true>(sums.high[half][block], a_high[half], b_high[0], b_high[1]);
          multiply_bytes<true, false>(sums.middle[half][block], a_high[half], b_low[0], b_low[1]);
          multiply_bytes<false, true>(sums.middle[half][block], a_low[half], b_high[0], b_high[1]);
          multiply_bytes<false, false>(sums.low[half][block], a_low[half], b_low[0], b_low[1]);
        }
      }
    }
    const float* const column_scales =
        b.scales + static_cast<std::int64_t>(chunk) * b.padded_cols + panel * width;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float row_scale = scale_of(16 * half + 8 * (i / 2) + group, chunk);
#pragma unroll
        for (int block = 0; block < 4; ++block) {
          const float scale = column_scales[8 * block + 2 * member + i % 2];
          const float total = static_cast<float>(sums.at(half, block, i)) * (scale * row_scale);
          totals[half][block][i] = chunk > 0 ? total + totals[half][block][i] : total;
        }
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int block = 0; block < 4; ++block) {
        store(16 * half + 8 * (i / 2) + group, 8 * block + 2 * member + i % 2, totals[half][block][i]);
      }
    }
  }
}

}  // namespace rotorquant::evaluation::device
