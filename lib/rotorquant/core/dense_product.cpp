#include "rotorquant/core/dense_product.hpp"

#include <algorithm>

#include "rotorquant/core/register_tile.hpp"
#include "rotorquant/core/scratch.hpp"

namespace rotorquant {
namespace {

// Outputs that stay in registers: 4 x 64 are sixteen registers of 512 bits; 6 x 16 are twelve of 256 bits,
// which leaves four for what they are made of.
#if defined(__AVX512F__)
using Lanes = float __attribute__((vector_size(64)));
constexpr std::int64_t tile_rows = 4;
constexpr std::int64_t tile_vectors = 4;
#elif defined(__AVX__)
using Lanes = float __attribute__((vector_size(32)));
constexpr std::int64_t tile_rows = 6;
constexpr std::int64_t tile_vectors = 2;
#else
using Lanes = float __attribute__((vector_size(16)));
constexpr std::int64_t tile_rows = 4;
constexpr std::int64_t tile_vectors = 2;
#endif
constexpr auto lane_count = static_cast<std::int64_t>(sizeof(Lanes) / sizeof(float));

// The columns of one tile's width: row r and those below it, `rows` at a time and the rest in smaller tiles.
template <std::int64_t vectors, std::int64_t rows = tile_rows>
void column_product(HostView<const float> x, HostView<const float> a, std::int64_t column, HostView<float> y,
                    std::int64_t r = 0) {
  for (; r + rows <= x.rows; r += rows)
    multiply_tile<Lanes, rows, vectors>(x.row(r), x.cols, a.rows, a.data + column, a.cols, false,
                                        y.row(r) + column, y.cols);
  if constexpr (rows > 1) column_product<vectors, (rows > 4 ? 4 : rows / 2)>(x, a, column, y, r);
}

// The columns from `column` on, fewer than a vector: as a whole one, with zeros behind them.
void rest_product(HostView<const float> x, HostView<const float> a, std::int64_t column, HostView<float> y) {
  static thread_local ScratchFloats a_scratch, y_scratch;
  const std::int64_t count = a.cols - column;
  float* padded = a_scratch.reserve(a.rows * lane_count);
  float* products = y_scratch.reserve(x.rows * lane_count);
  std::fill_n(padded, a.rows * lane_count, 0.0F);
  for (std::int64_t k = 0; k < a.rows; ++k) std::copy_n(a.row(k) + column, count, padded + k * lane_count);
  column_product<1>(x, {padded, a.rows, lane_count}, 0, {products, x.rows, lane_count});
  for (std::int64_t r = 0; r < x.rows; ++r) std::copy_n(products + r * lane_count, count, y.row(r) + column);
}

}  // namespace

void dense_product(HostView<const float> x, HostView<const float> a, HostView<float> y) {
  std::int64_t column = 0;
  for (; column + tile_vectors * lane_count <= a.cols; column += tile_vectors * lane_count)
    column_product<tile_vectors>(x, a, column, y);
  for (; column + lane_count <= a.cols; column += lane_count) column_product<1>(x, a, column, y);
  if (column < a.cols) rest_product(x, a, column, y);
}

}  // namespace rotorquant
