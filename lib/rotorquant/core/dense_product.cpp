#include "rotorquant/core/dense_product.hpp"

#include <algorithm>

#include "rotorquant/core/register_tile.hpp"

namespace rotorquant {
namespace {

// As many float32 as a register of the target holds: compilers keep longer vectors in memory. Outputs stay in
// registers: 4 x 64 are sixteen registers of 512 bits, 2 x 32 eight of 256 bits.
#if defined(__AVX512F__)
constexpr std::int64_t lane_count = 16;
constexpr std::int64_t tile_rows = 4;
#elif defined(__AVX__)
constexpr std::int64_t lane_count = 8;
constexpr std::int64_t tile_rows = 2;
#else
constexpr std::int64_t lane_count = 4;
constexpr std::int64_t tile_rows = 2;
#endif
constexpr std::int64_t tile_vectors = 4;
using Lanes = float __attribute__((vector_size(lane_count * sizeof(float))));

// The columns of one tile's width.
template <std::int64_t vectors>
void column_product(HostView<const float> x, HostView<const float> a, std::int64_t column,
                    HostView<float> y) {
  const auto multiply = [&]<std::int64_t rows>(std::int64_t r) {
    multiply_tile<Lanes, rows, vectors>(x.row(r), x.cols, a.rows, a.data + column, a.cols, false,
                                        y.row(r) + column, y.cols);
  };
  std::int64_t r = 0;
  for (; r + tile_rows <= x.rows; r += tile_rows) multiply.template operator()<tile_rows>(r);
  for (; r < x.rows; ++r) multiply.template operator()<1>(r);
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
