#include "rotorquant/core/dense_product.hpp"

#include <algorithm>
#include <cstring>

#include "rotorquant/core/in_register.hpp"

namespace rotorquant {
namespace {

// Sixteen float32 in whatever vector registers the target has.
using Lanes = float __attribute__((vector_size(64)));
constexpr std::int64_t lane_count = 16;

// Outputs that stay in registers: 4 x 64 are sixteen registers of 512 bits, 2 x 32 eight of 256 bits.
#ifdef __AVX512F__
constexpr std::int64_t tile_rows = 4;
constexpr std::int64_t tile_vectors = 4;
#else
constexpr std::int64_t tile_rows = 2;
constexpr std::int64_t tile_vectors = 2;
#endif

// y(r, c) = sum over k of x(r, k) a(k, c), k ascending; x, a and y begin at the tile.
template <std::int64_t rows, std::int64_t vectors>
void tile_product(const float* x, std::int64_t x_stride, const float* a, std::int64_t depth,
                  std::int64_t a_stride, float* y) {
  // Lane by lane: an array that is copied as a whole would pass through memory.
  Lanes sums[rows][vectors] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    Lanes row[vectors];
#pragma GCC unroll 4
    for (std::int64_t v = 0; v < vectors; ++v) {
      Lanes part;
      std::memcpy(&part, a + k * a_stride + v * lane_count, sizeof(part));
      in_register(part);
      row[v] = part;
    }
#pragma GCC unroll 4
    for (std::int64_t r = 0; r < rows; ++r) {
      const float factor = x[r * x_stride + k];
#pragma GCC unroll 4
      for (std::int64_t v = 0; v < vectors; ++v) sums[r][v] += factor * row[v];
    }
  }
#pragma GCC unroll 4
  for (std::int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (std::int64_t v = 0; v < vectors; ++v) {
      const Lanes total = sums[r][v];
      std::memcpy(y + r * a_stride + v * lane_count, &total, sizeof(total));
    }
  }
}

// The columns of one tile's width.
template <std::int64_t vectors>
void column_product(HostView<const float> x, HostView<const float> a, std::int64_t column,
                    HostView<float> y) {
  std::int64_t r = 0;
  for (; r + tile_rows <= x.rows; r += tile_rows) {
    tile_product<tile_rows, vectors>(x.row(r), x.cols, a.data + column, a.rows, a.cols, y.row(r) + column);
  }
  for (; r < x.rows; ++r)
    tile_product<1, vectors>(x.row(r), x.cols, a.data + column, a.rows, a.cols, y.row(r) + column);
}

}  // namespace

void dense_product(HostView<const float> x, HostView<const float> a, HostView<float> y) {
  std::int64_t column = 0;
  for (; column + tile_vectors * lane_count <= a.cols; column += tile_vectors * lane_count)
    column_product<tile_vectors>(x, a, column, y);
  for (; column + lane_count <= a.cols; column += lane_count) column_product<1>(x, a, column, y);
  for (std::int64_t r = 0; r < x.rows && column < a.cols; ++r) {
    float sums[lane_count] = {};
    for (std::int64_t k = 0; k < a.rows; ++k) {
      for (std::int64_t c = column; c < a.cols; ++c) sums[c - column] += x.row(r)[k] * a.row(k)[c];
    }
    std::copy_n(sums, a.cols - column, y.row(r) + column);
  }
}

}  // namespace rotorquant
