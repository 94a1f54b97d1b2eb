#pragma once
// c = a b in float64, each output summed over ascending k with one rounding per product and one per sum.
//
// A general matrix product (Eigen, BLAS) leaves the order of summation to the tile an output happens to fall
// into, so that two equal keys may get scores that differ in the last bit and a tie is then broken by
// position in the tile. Here an output depends on its own row and column alone: equal keys tie exactly,
// blocks and instruction sets do not change a bit.
#include <cstdint>

#include "evaluation/metrics/aligned_buffer.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

// Columns of a panel, in float64: two 512-bit registers.
inline constexpr std::int64_t panel_width = 16;

constexpr std::int64_t round_up(std::int64_t count, std::int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

// The right operand b [depth, cols] in panels of panel_width columns, each panel [depth, panel_width] and
// contiguous. Columns beyond `cols` are zero.
class PanelMatrix {
 public:
  // b = x, x [depth, cols].
  void assign(HostView<const float> x);
  // b = x^T, x [cols, depth].
  void assign_transposed(HostView<const float> x);

  std::int64_t depth() const { return depth_; }
  std::int64_t cols() const { return cols_; }
  std::int64_t padded_cols() const { return round_up(cols_, panel_width); }
  const double* panel(std::int64_t index) const { return values_.data() + index * depth_ * panel_width; }

 private:
  double* shape(std::int64_t depth, std::int64_t cols);

  AlignedBuffer values_;
  std::int64_t depth_ = 0;
  std::int64_t cols_ = 0;
};

// c(r, j) = sum over k < depth of a(r, k) b(k, j), for the rows r < rows and the columns j of the first
// ceil(cols / panel_width) panels: c has room for round_up(cols, panel_width) columns. depth <= b.depth(),
// cols <= b.cols().
void panel_product(const double* a, std::int64_t a_stride, std::int64_t rows, std::int64_t depth,
                   const PanelMatrix& b, std::int64_t cols, double* c, std::int64_t c_stride);

}  // namespace rotorquant::evaluation
