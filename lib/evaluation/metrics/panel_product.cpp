#include "evaluation/metrics/panel_product.hpp"

#include <algorithm>

#include "evaluation/metrics/lanes.hpp"
#include "rotorquant/core/register_tile.hpp"

namespace rotorquant::evaluation {
namespace {

using Register = RegisterVector<double>;
constexpr std::int64_t panel_registers = panel_width / (register_bytes / 8);
// Rows of a register tile: with 32 registers of 512 bits the sums of eight rows fit, elsewhere those of
// two.
#ifdef __AVX512F__
constexpr std::int64_t tile_rows = 8;
#else
constexpr std::int64_t tile_rows = 2;
#endif
// Terms added before the next rows reuse the same part of a panel: 128 x 16 float64 are 16 KiB, half of a
// first-level cache.
constexpr std::int64_t depth_block = 128;

}  // namespace

double* PanelMatrix::shape(std::int64_t depth, std::int64_t cols) {
  depth_ = depth;
  cols_ = cols;
  values_.reserve(depth * padded_cols());
  return values_.data();
}

void PanelMatrix::assign(HostView<const float> x) {
  double* out = shape(x.rows, x.cols);
  for (std::int64_t begin = 0; begin < x.cols; begin += panel_width) {
    const std::int64_t used = std::min(panel_width, x.cols - begin);
    for (std::int64_t k = 0; k < x.rows; ++k, out += panel_width) {
      for (std::int64_t j = 0; j < used; ++j) out[j] = static_cast<double>(x.row(k)[begin + j]);
      std::fill(out + used, out + panel_width, 0.0);
    }
  }
}

void PanelMatrix::assign_transposed(HostView<const float> x) {
  double* out = shape(x.cols, x.rows);
  for (std::int64_t begin = 0; begin < x.rows; begin += panel_width) {
    const std::int64_t used = std::min(panel_width, x.rows - begin);
    for (std::int64_t k = 0; k < x.cols; ++k, out += panel_width) {
      for (std::int64_t j = 0; j < used; ++j) out[j] = static_cast<double>(x.row(begin + j)[k]);
      std::fill(out + used, out + panel_width, 0.0);
    }
  }
}

void panel_product(const double* a, std::int64_t a_stride, std::int64_t rows, std::int64_t depth,
                   const PanelMatrix& b, std::int64_t cols, double* c, std::int64_t c_stride) {
  const std::int64_t panels = round_up(cols, panel_width) / panel_width;
  for (std::int64_t p = 0; p < panels; ++p) {
    for (std::int64_t k = 0; k < depth; k += depth_block) {
      const std::int64_t terms = std::min(depth_block, depth - k);
      const double* part = b.panel(p) + k * panel_width;
      // Later terms start from c, so that the order stays ascending.
      const auto multiply = [&]<std::int64_t count>(std::int64_t r) {
        multiply_tile<Register, count, panel_registers>(a + r * a_stride + k, a_stride, terms, part,
                                                        panel_width, k > 0,
                                                        c + r * c_stride + p * panel_width, c_stride);
      };
      std::int64_t r = 0;
      for (; r + tile_rows <= rows; r += tile_rows) multiply.template operator()<tile_rows>(r);
      for (; r < rows; ++r) multiply.template operator()<1>(r);
    }
  }
}

}  // namespace rotorquant::evaluation
