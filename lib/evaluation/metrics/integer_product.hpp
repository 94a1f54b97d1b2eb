#pragma once
// c = a b in 16-bit integers whose sums are exact, for matrices that are themselves small errors or that
// multiply such.
//
// The depth of the product is cut into chunks of 128. Within a chunk each row of a and each column of b is
// scaled to the Euclidean norm 32000 and rounded to int16: by Cauchy and Schwarz no sum of their products
// leaves int32, whatever its order, so that tiles, threads and instruction sets give the same bits and equal
// columns equal results. An element is off by at most half a unit, 1.6e-5 of its vector's norm in the chunk;
// such roundings are of either sign and average out over the thousands of outputs behind a metric
// (attention.hpp says what is left). A multiply-add of two pairs costs half of one in float32 and a quarter
// of one in float64.
#include <cstdint>
#include <span>

#include "evaluation/metrics/aligned_buffer.hpp"
#include "evaluation/metrics/panel_product.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

inline constexpr std::int64_t chunk_depth = 128;
// Columns of a panel of the right operand: two 512-bit registers of pairs.
inline constexpr std::int64_t integer_panel_width = 32;

// Rows that a product is formed for at once, or a multiple of them.
inline constexpr std::int64_t integer_tile_rows = 12;

constexpr std::int64_t num_chunks(std::int64_t depth) {
  return (depth + chunk_depth - 1) / chunk_depth;
}

// How a chunk is rounded, wherever it is:
// Below 32767 by more than the rounding of the elements can add to a norm of 128 of them (6).
inline constexpr float rounded_norm = 32000.0F;
// A chunk without an element of this size is 0: its inverse would leave float32.
inline constexpr float smallest_element = 1e-30F;
// Adding it rounds a number below 2^22 to an integer, which then stands in the low bits.
inline constexpr float rounding_shift = 0x1.8p23F;
// Sums of squares between these have lost nothing to the ends of float32's range.
inline constexpr float least_squares = 1e-30F;
inline constexpr float most_squares = 1e30F;

// The left operand [rows, depth]; nothing is owned.
struct IntegerRows {
  const std::int16_t* values = nullptr;  // [rows, stride]
  std::int64_t stride = 0;               // even; 0 from the end of a row to the next even column
  const float* scales = nullptr;         // [rows, scale_stride], of which num_chunks(depth) are used
  std::int64_t scale_stride = 0;

  IntegerRows from(std::int64_t row) const {
    return {values + row * stride, stride, scales + row * scale_stride, scale_stride};
  }
};

// x [count] becomes values [count rounded up to 16], 0 beyond, and scales [num_chunks(count)]. x may be read
// up to the next multiple of 16, where it is 0. Elements of a chunk whose largest is below 1e-30 become 0.
struct RowToRound {
  const float* x = nullptr;
  std::int64_t count = 0;
  std::int16_t* values = nullptr;
  float* scales = nullptr;
};
void round_rows(std::span<const RowToRound> rows);

// The right operand b [depth, cols]. Panels follow one another: those of chunk c begin at value 128 c
// padded_cols() and scale c padded_cols().
class IntegerPanels {
 public:
  // b = x, x [depth, cols].
  void assign(HostView<const float> x);
  // b = x^T, x [cols, depth].
  void assign_transposed(HostView<const float> x);

  std::int64_t depth() const { return depth_; }
  std::int64_t padded_cols() const { return padded_cols_; }
  std::int64_t num_values() const { return round_up(depth_, 2) * padded_cols_; }
  std::int64_t num_scales() const { return num_chunks(depth_) * padded_cols_; }
  // Pairs of consecutive rows: [depth of the chunk / 2, rounded up][integer_panel_width][2].
  const std::int16_t* panel(std::int64_t chunk, std::int64_t index) const;
  // [integer_panel_width]
  const float* scales(std::int64_t chunk, std::int64_t index) const {
    return scales_.data() + chunk * padded_cols_ + index * integer_panel_width;
  }

 private:
  void shape(std::int64_t depth, std::int64_t cols);
  void assign_column(std::int64_t column, const std::int16_t* values, const float* scales);
  void assign_columns(HostView<const float> x, std::int64_t chunk, std::int64_t column);
  std::int64_t padded_depth(std::int64_t chunk) const;
  std::int16_t* mutable_panel(std::int64_t chunk, std::int64_t index);

  AlignedArray<std::int16_t> values_;
  AlignedArray<float> scales_;       // [chunks, padded_cols]
  AlignedArray<float> padded_rows_;  // scratch of `assign_transposed`, as the next two
  AlignedArray<float> row_scales_;
  AlignedArray<std::int16_t> rounded_;
  std::int64_t depth_ = 0;
  std::int64_t cols_ = 0;
  std::int64_t padded_cols_ = 0;
};

// c(r, j) = sum over k < depth of a(r, k) b(k, j), for r < rows and j < cols rounded up to 16: c
// has room for so many. depth <= b.depth(), cols <= b's; a is 0
// from depth to the next even column.
void integer_product(const IntegerRows& a, std::int64_t rows, std::int64_t depth, const IntegerPanels& b,
                     std::int64_t cols, float* c, std::int64_t c_stride);

}  // namespace rotorquant::evaluation
