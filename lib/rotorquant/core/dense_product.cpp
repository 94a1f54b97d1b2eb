#include "rotorquant/core/dense_product.hpp"

#include <algorithm>

namespace rotorquant {
namespace {

// A tile of outputs lives in registers: 4 rows of 64 floats are sixteen 512-bit registers.
constexpr std::int64_t tile_rows = 4;
constexpr std::int64_t tile_cols = 64;

template <std::int64_t rows>
void tile_product(const float* x, std::int64_t x_stride, const float* a, std::int64_t depth,
                  std::int64_t a_stride, float* y, std::int64_t cols) {
  float sums[rows][tile_cols] = {};
  if (cols == tile_cols) {
    for (std::int64_t k = 0; k < depth; ++k) {
      for (std::int64_t r = 0; r < rows; ++r) {
        const float factor = x[r * x_stride + k];
        for (std::int64_t c = 0; c < tile_cols; ++c) sums[r][c] += factor * a[k * a_stride + c];
      }
    }
  } else {
    for (std::int64_t k = 0; k < depth; ++k) {
      for (std::int64_t r = 0; r < rows; ++r) {
        const float factor = x[r * x_stride + k];
        for (std::int64_t c = 0; c < cols; ++c) sums[r][c] += factor * a[k * a_stride + c];
      }
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) std::copy_n(sums[r], cols, y + r * a_stride);
}

}  // namespace

void dense_product(HostView<const float> x, HostView<const float> a, HostView<float> y) {
  for (std::int64_t c = 0; c < a.cols; c += tile_cols) {
    const std::int64_t cols = std::min(tile_cols, a.cols - c);
    std::int64_t r = 0;
    for (; r + tile_rows <= x.rows; r += tile_rows) {
      tile_product<tile_rows>(x.row(r), x.cols, a.data + c, a.rows, a.cols, y.row(r) + c, cols);
    }
    for (; r < x.rows; ++r) tile_product<1>(x.row(r), x.cols, a.data + c, a.rows, a.cols, y.row(r) + c, cols);
  }
}

}  // namespace rotorquant
