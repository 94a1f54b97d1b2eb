#include "rotorquant/core/dense_product.hpp"

#include <algorithm>

#include "rotorquant/core/register_tile.hpp"
#include "rotorquant/core/scratch.hpp"

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

// The columns of one tile's width; rows of fewer vectors go together in greater number.
template <std::int64_t vectors>
void column_product(HostView<const float> x, HostView<const float> a, std::int64_t column,
                    HostView<float> y) {
  const auto multiply = [&]<std::int64_t rows>(std::int64_t r) {
    multiply_tile<Lanes, rows, vectors>(x.row(r), x.cols, a.rows, a.data + column, a.cols, false,
                                        y.row(r) + column, y.cols);
  };
  constexpr std::int64_t together = std::min<std::int64_t>(8, tile_rows * tile_vectors / vectors);
  std::int64_t r = 0;
  for (; r + together <= x.rows; r += together) multiply.template operator()<together>(r);
  for (; r < x.rows; ++r) multiply.template operator()<1>(r);
}

}  // namespace

void dense_product(HostView<const float> x, HostView<const float> a, HostView<float> y) {
  std::int64_t column = 0;
  for (; column + tile_vectors * lane_count <= a.cols; column += tile_vectors * lane_count)
    column_product<tile_vectors>(x, a, column, y);
  for (; column + lane_count <= a.cols; column += lane_count) column_product<1>(x, a, column, y);
  const std::int64_t left = a.cols - column;
  if (left == 0) return;
  // The columns that fill no vector, in one with zeros.
  static thread_local ScratchFloats scratch;
  float* padded = scratch.reserve((a.rows + x.rows) * lane_count);
  float* products = padded + a.rows * lane_count;
  std::fill_n(padded, a.rows * lane_count, 0.0F);
  for (std::int64_t k = 0; k < a.rows; ++k) std::copy_n(a.row(k) + column, left, padded + k * lane_count);
  column_product<1>(x, {padded, a.rows, lane_count}, 0, {products, x.rows, lane_count});
  for (std::int64_t r = 0; r < x.rows; ++r) std::copy_n(products + r * lane_count, left, y.row(r) + column);
}

}  // namespace rotorquant
