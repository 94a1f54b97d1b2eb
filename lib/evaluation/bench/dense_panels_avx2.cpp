#include "evaluation/bench/dense_panels_avx2.hpp"

#include <algorithm>

#if defined(__x86_64__)
#include "rotorquant/core/avx2.hpp"
#endif

namespace rotorquant::evaluation {
namespace {

constexpr std::int64_t panel_cols = 16;

#if defined(__x86_64__)
using namespace avx2;

// Rows whose sums with a panel stay in registers, and those that stay in the first-level cache beside it.
constexpr std::int64_t tile_rows = 6;
constexpr std::int64_t block_rows = 36;

// Columns [column, column + 16) of `rows` rows from row r on.
template <std::int64_t rows>
ROTORQUANT_AVX2 void multiply_tile(HostView<const float> x, std::int64_t r, const float* panel,
                                   std::int64_t column, HostView<float> y) {
  __m256 sums[rows][2];
#pragma GCC unroll 6
  for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_ps();
  for (std::int64_t k = 0; k < x.cols; ++k) {
    const __m256 low = _mm256_loadu_ps(panel + k * panel_cols);
    const __m256 high = _mm256_loadu_ps(panel + k * panel_cols + lanes);
#pragma GCC unroll 6
    for (std::int64_t i = 0; i < rows; ++i) {
      const __m256 factor = _mm256_broadcast_ss(x.row(r + i) + k);
      sums[i][0] = _mm256_fmadd_ps(factor, low, sums[i][0]);
      sums[i][1] = _mm256_fmadd_ps(factor, high, sums[i][1]);
    }
  }
  const bool whole = column + panel_cols <= y.cols;
  // Unrolled: an array that is indexed at run time would be kept in memory all the time.
#pragma GCC unroll 6
  for (std::int64_t i = 0; i < rows; ++i) {
    float* out = y.row(r + i) + column;
    float part[panel_cols];
    float* to = whole ? out : part;
    _mm256_storeu_ps(to, sums[i][0]);
    _mm256_storeu_ps(to + lanes, sums[i][1]);
    if (!whole) std::copy_n(part, y.cols - column, out);
  }
}

// Rows [r, end), `rows` at a time and the rest in smaller tiles.
template <std::int64_t rows>
void multiply_rows(HostView<const float> x, std::int64_t r, std::int64_t end, const float* panel,
                   std::int64_t column, HostView<float> y) {
  for (; r + rows <= end; r += rows) multiply_tile<rows>(x, r, panel, column, y);
  if constexpr (rows > 1) multiply_rows<(rows > 4 ? 4 : rows / 2)>(x, r, end, panel, column, y);
}
#endif

}  // namespace

DensePanels::DensePanels(HostView<const float> a)
    : panels_(static_cast<std::size_t>((a.cols + panel_cols - 1) / panel_cols * panel_cols * a.rows)) {
  for (std::int64_t k = 0; k < a.rows; ++k) {
    for (std::int64_t c = 0; c < a.cols; ++c) {
      const std::int64_t place = (c / panel_cols * a.rows + k) * panel_cols + c % panel_cols;
      panels_[static_cast<std::size_t>(place)] = a.row(k)[c];
    }
  }
}

void DensePanels::multiply([[maybe_unused]] HostView<const float> x,
                           [[maybe_unused]] HostView<float> y) const {
#if defined(__x86_64__)
  for (std::int64_t r = 0; r < x.rows; r += block_rows) {
    const std::int64_t end = std::min(x.rows, r + block_rows);
    for (std::int64_t column = 0; column < y.cols; column += panel_cols)
      multiply_rows<tile_rows>(x, r, end, panels_.data() + column * x.cols, column, y);
  }
#endif
}

}  // namespace rotorquant::evaluation
