#include "evaluation/metrics/integer_product.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/ordered_sums.hpp"
#include "evaluation/metrics/panel_product.hpp"
#include "rotorquant/core/multiply_add.hpp"

namespace rotorquant::evaluation {
namespace {

using IntRegister = RegisterVector<std::int32_t>;
using FloatRegister = RegisterVector<float>;
constexpr std::int64_t register_lanes = register_bytes / 4;
constexpr std::int64_t panel_registers = integer_panel_width / register_lanes;
static_assert(float_lane_count % register_lanes == 0);
// A tile: rows by registers of columns, whose sums stay in registers.
#if defined(__AVX512F__)
constexpr std::int64_t tile_rows = integer_tile_rows;
constexpr std::int64_t part_tile_rows = 4;  // of what is left
#else
constexpr std::int64_t tile_rows = 6;
constexpr std::int64_t part_tile_rows = 2;
#endif
constexpr std::int64_t tile_registers = 2;
static_assert(integer_tile_rows % tile_rows == 0);

// Rows that become columns of panels together.
constexpr std::int64_t rows_at_once = 16;

// What a scaled element is multiplied with, and what gives the norm back.
struct Scale {
  float factor = 0.0F;
  float inverse = 0.0F;
};

// `squares` is the sum of the squares of the elements over the largest of them.
Scale scale_of(float largest, float squares) {
  if (!(largest >= smallest_element)) return {};
  const float norm = largest * std::sqrt(squares);
  return {.factor = rounded_norm / norm, .inverse = norm / rounded_norm};
}

float inverse_of(float largest) {
  return largest >= smallest_element ? 1.0F / largest : 0.0F;
}

// sum(i) += a(2i) b(2i) + a(2i+1) b(2i+1) in every lane; a and b are pairs of int16.
inline void add_pairs(IntRegister& sum, const IntRegister& a, const IntRegister& b) {
#if defined(__AVX512VNNI__)
  sum = reinterpret_cast<IntRegister>(_mm512_dpwssd_epi32(
      reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX512BW__)
  sum += reinterpret_cast<IntRegister>(
      _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__) && !defined(__AVX512F__)
  sum += reinterpret_cast<IntRegister>(
      _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  sum += ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

// out(r, 0..) (+)= scales times the sum over k of a(r, k) panel(k, 0..) for `registers` of columns of a
// panel.
template <std::int64_t rows, std::int64_t registers>
void tile_product(const IntegerRows& a, std::int64_t chunk, std::int64_t pairs, const std::int16_t* panel,
                  const float* panel_scales, bool resume, float* out, std::int64_t stride) {
  // Of every third row: from one, x86 addresses the next two by a multiple of the stride.
  const std::int16_t* left[(rows + 2) / 3];
  for (std::int64_t i = 0; i < (rows + 2) / 3; ++i)
    left[i] = a.values + 3 * i * a.stride + chunk * chunk_depth;
  const std::int64_t stride_of_a = a.stride;
  IntRegister sums[rows][registers] = {};
  for (std::int64_t k = 0; k < pairs; ++k) {
    // One by one: an array that is copied as a whole would pass through memory.
    IntRegister b[registers];
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < registers; ++i) {
      IntRegister part;
      std::memcpy(&part, panel + k * 2 * integer_panel_width + i * 2 * register_lanes, sizeof(part));
      b[i] = part;
    }
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < rows; ++r) {
      std::int32_t pair;
      std::memcpy(&pair, left[r / 3] + r % 3 * stride_of_a + 2 * k, sizeof(pair));
      const IntRegister factor = pair + IntRegister{};
#pragma GCC unroll 4
      for (std::int64_t i = 0; i < registers; ++i) add_pairs(sums[r][i], factor, b[i]);
    }
  }
#pragma GCC unroll 16
  for (std::int64_t r = 0; r < rows; ++r) {
    const float row_scale = a.scales[r * a.scale_stride + chunk];
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < registers; ++i) {
      FloatRegister scale;
      std::memcpy(&scale, panel_scales + i * register_lanes, sizeof(scale));
      FloatRegister total = __builtin_convertvector(sums[r][i], FloatRegister) * (scale * row_scale);
      float* place = out + r * stride + i * register_lanes;
      if (resume) {
        FloatRegister before;
        std::memcpy(&before, place, sizeof(before));
        total += before;
      }
      std::memcpy(place, &total, sizeof(total));
    }
  }
}

// The integers nearest to factor x, ties to even, below 2^15, in the low halves.
inline IntLanes rounded(const FloatLanes& x, const FloatLanes& factor) {
  const FloatLanes shifted = multiply_add(x, factor, rounding_shift);
  return same_bits<IntLanes>(shifted);
}

inline FloatLanes magnitude(const FloatLanes& x) {
  return choose(x < 0.0F, -x, x);
}

FloatLanes sum_of_squares(const float* x, std::int64_t count) {
  FloatLanes squares = {};
  for (std::int64_t i = 0; i < count; i += float_lane_count)
    squares = multiply_add(load_lanes(x + i), load_lanes(x + i), squares);
  return squares;
}

// Of a chunk whose squares leave the middle of float32's range.
Scale extreme_scale(const float* x, std::int64_t count) {
  FloatLanes largest_lanes = {};
  for (std::int64_t i = 0; i < count; i += float_lane_count) {
    const FloatLanes size = magnitude(load_lanes(x + i));
    largest_lanes = choose(size > largest_lanes, size, largest_lanes);
  }
  float largest = 0.0F;
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane)
    largest = std::max(largest, largest_lanes[lane]);
  const float inverse = inverse_of(largest);
  FloatLanes squares = {};
  for (std::int64_t i = 0; i < count; i += float_lane_count) {
    const FloatLanes share = load_lanes(x + i) * inverse;
    squares = multiply_add(share, share, squares);
  }
  float total = 0.0F;
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane) total += squares[lane];
  return scale_of(largest, total);
}

// Chunks of rows that are rounded together, so that their scales are computed beside one another.
class ChunkBatch {
 public:
  void add(const float* x, std::int64_t count, std::int16_t* values, float* scale) {
    chunks_[size_++] = {x, count, values, scale};
    if (size_ == float_lane_count) round();
  }
  void round() {
    FloatLanes squares[float_lane_count] = {};
    for (std::int64_t i = 0; i < size_; ++i) squares[i] = sum_of_squares(chunks_[i].x, chunks_[i].count);
    const FloatLanes totals = ordered_sums(squares);
    for (std::int64_t i = 0; i < size_; ++i) {
      const auto& [x, count, values, scale_place] = chunks_[i];
      const Scale scale = totals[i] > least_squares && totals[i] < most_squares ? scale_of(1.0F, totals[i])
                                                                                : extreme_scale(x, count);
      *scale_place = scale.inverse;
      factors_[i] = scale.factor;
    }
    for (std::int64_t i = 0; i < size_; ++i) {
      const auto& [x, count, values, scale_place] = chunks_[i];
      const FloatLanes factor = factors_[i] + FloatLanes{};
      for (std::int64_t k = 0; k < count; k += float_lane_count) {
        store_halves(rounded(load_lanes(x + k), factor), values + k);
      }
    }
    size_ = 0;
  }

 private:
  struct Chunk {
    const float* x;
    std::int64_t count;
    std::int16_t* values;
    float* scale;
  };
  Chunk chunks_[float_lane_count];
  float factors_[float_lane_count];
  std::int64_t size_ = 0;
};

}  // namespace

void round_rows(std::span<const RowToRound> rows) {
  ChunkBatch batch;
  for (const RowToRound& row : rows) {
    for (std::int64_t begin = 0; begin < row.count; begin += chunk_depth) {
      batch.add(row.x + begin, std::min(chunk_depth, row.count - begin), row.values + begin,
                row.scales + begin / chunk_depth);
    }
  }
  batch.round();
}

std::int64_t IntegerPanels::padded_depth(std::int64_t chunk) const {
  return round_up(std::min(chunk_depth, depth_ - chunk * chunk_depth), 2);
}

std::int16_t* IntegerPanels::mutable_panel(std::int64_t chunk, std::int64_t index) {
  return values_.data() + chunk * chunk_depth * padded_cols_ +
         index * padded_depth(chunk) * integer_panel_width;
}

const std::int16_t* IntegerPanels::panel(std::int64_t chunk, std::int64_t index) const {
  return const_cast<IntegerPanels*>(this)->mutable_panel(chunk, index);
}

void IntegerPanels::shape(std::int64_t depth, std::int64_t cols) {
  depth_ = depth;
  cols_ = cols;
  padded_cols_ = round_up(cols, integer_panel_width);
  values_.reserve(num_values());
  scales_.reserve(num_scales());
  if (cols % integer_panel_width == 0 && depth % 2 == 0) return;  // nothing is padded
  std::fill_n(values_.data(), num_values(), std::int16_t{0});
  std::fill_n(scales_.data(), num_scales(), 0.0F);
}

void IntegerPanels::assign_transposed(HostView<const float> x) {
  shape(x.cols, x.rows);
  const std::int64_t padded = round_up(x.cols, float_lane_count);
  const std::int64_t chunks = num_chunks(x.cols);
  padded_rows_.reserve(rows_at_once * padded);
  std::fill_n(padded_rows_.data(), rows_at_once * padded, 0.0F);
  rounded_.reserve(rows_at_once * padded);
  row_scales_.reserve(rows_at_once * chunks);
  for (std::int64_t first = 0; first < x.rows; first += rows_at_once) {
    const std::int64_t rows = std::min(rows_at_once, x.rows - first);
    RowToRound to_round[rows_at_once];
    for (std::int64_t r = 0; r < rows; ++r) {
      float* row = padded_rows_.data() + r * padded;
      std::copy_n(x.row(first + r), x.cols, row);
      to_round[r] = {row, x.cols, rounded_.data() + r * padded, row_scales_.data() + r * chunks};
    }
    round_rows({to_round, static_cast<std::size_t>(rows)});
    for (std::int64_t r = 0; r < rows; ++r) assign_column(first + r, to_round[r].values, to_round[r].scales);
  }
}

void IntegerPanels::assign_column(std::int64_t column, const std::int16_t* values, const float* scales) {
  for (std::int64_t chunk = 0; chunk < num_chunks(depth_); ++chunk) {
    scales_.data()[chunk * padded_cols_ + column] = scales[chunk];
    std::int16_t* out = mutable_panel(chunk, column / integer_panel_width) + column % integer_panel_width * 2;
    const std::int16_t* in = values + chunk * chunk_depth;
    for (std::int64_t k = 0; k < padded_depth(chunk); k += 2)
      std::memcpy(out + k * integer_panel_width, in + k, 2 * sizeof(std::int16_t));
  }
}

void IntegerPanels::assign(HostView<const float> x) {
  shape(x.rows, x.cols);
  for (std::int64_t chunk = 0; chunk < num_chunks(x.rows); ++chunk) {
    for (std::int64_t column = 0; column < x.cols; column += float_lane_count)
      assign_columns(x, chunk, column);
  }
}

// Sixteen columns of a chunk, fewer at the end of the rows.
void IntegerPanels::assign_columns(HostView<const float> x, std::int64_t chunk, std::int64_t column) {
  const std::int64_t begin = chunk * chunk_depth;
  const std::int64_t end = std::min(begin + chunk_depth, x.rows);
  const std::int64_t used = std::min(float_lane_count, x.cols - column);
  const auto load = [&](std::int64_t row) {
    if (used == float_lane_count) return load_lanes(x.row(row) + column);
    float part[float_lane_count] = {};
    std::copy_n(x.row(row) + column, used, part);
    return load_lanes(part);
  };
  FloatLanes largest = {};
  for (std::int64_t k = begin; k < end; ++k) {
    const FloatLanes size = magnitude(load(k));
    largest = choose(size > largest, size, largest);
  }
  float inverses[float_lane_count];
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane) inverses[lane] = inverse_of(largest[lane]);
  const FloatLanes inverse = load_lanes(inverses);
  FloatLanes squares = {};
  for (std::int64_t k = begin; k < end; ++k) {
    const FloatLanes share = load(k) * inverse;
    squares = multiply_add(share, share, squares);
  }
  float factors[float_lane_count] = {};
  float* scales = scales_.data() + chunk * padded_cols_ + column;
  for (std::int64_t lane = 0; lane < used; ++lane) {
    const Scale scale = scale_of(largest[lane], squares[lane]);
    factors[lane] = scale.factor;
    scales[lane] = scale.inverse;
  }
  const FloatLanes factor = load_lanes(factors);
  std::int16_t* out = mutable_panel(chunk, column / integer_panel_width) + column % integer_panel_width * 2;
  for (std::int64_t k = begin; k < end; k += 2) {
    const IntLanes first = rounded(load(k), factor);
    const IntLanes second = k + 1 < end ? rounded(load(k + 1), factor) : IntLanes{};
    const IntLanes pairs = (first & 0xFFFF) | (second << 16);
    std::memcpy(out + (k - begin) * integer_panel_width, &pairs, sizeof(pairs));
  }
}

void integer_product(const IntegerRows& a, std::int64_t rows, std::int64_t depth, const IntegerPanels& b,
                     std::int64_t cols, float* c, std::int64_t c_stride) {
  const std::int64_t panels = round_up(cols, integer_panel_width) / integer_panel_width;
  for (std::int64_t chunk = 0; chunk < num_chunks(depth); ++chunk) {
    const std::int64_t pairs = (std::min(chunk_depth, depth - chunk * chunk_depth) + 1) / 2;
    for (std::int64_t p = 0; p < panels; ++p) {
      // The second half of the last panel may hold no columns.
      const bool half = cols - p * integer_panel_width <= float_lane_count;
      const std::int64_t registers = half ? panel_registers / 2 : panel_registers;
      const auto multiply = [&]<std::int64_t count>(std::int64_t r) {
        for (std::int64_t i = 0; i < registers; i += tile_registers) {
          const auto product =
              registers - i < tile_registers ? tile_product<count, 1> : tile_product<count, tile_registers>;
          const std::int64_t first = i * register_lanes;
          product(a.from(r), chunk, pairs, b.panel(chunk, p) + 2 * first, b.scales(chunk, p) + first,
                  chunk > 0, c + r * c_stride + p * integer_panel_width + first, c_stride);
        }
      };
      std::int64_t r = 0;
      for (; r + tile_rows <= rows; r += tile_rows) multiply.template operator()<tile_rows>(r);
      for (; r + part_tile_rows <= rows; r += part_tile_rows) multiply.template operator()<part_tile_rows>(r);
      for (; r < rows; ++r) multiply.template operator()<1>(r);
    }
  }
}

}  // namespace rotorquant::evaluation
