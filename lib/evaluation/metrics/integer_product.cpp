#include "evaluation/metrics/integer_product.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/panel_product.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr std::int64_t panel_lanes = integer_panel_width / float_lane_count;
// Where registers are few, the sums of fewer rows fit.
#if defined(__AVX512F__)
constexpr std::int64_t tile_rows = integer_tile_rows;
constexpr std::int64_t part_tile_rows = 4;  // of what is left
#else
constexpr std::int64_t tile_rows = 4;
constexpr std::int64_t part_tile_rows = 2;
#endif
static_assert(integer_tile_rows % tile_rows == 0);

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

// sum(i) += a(2i) b(2i) + a(2i+1) b(2i+1), i < 16; a and b are pairs of int16.
inline void add_pairs(IntLanes& sum, const IntLanes& a, const IntLanes& b) {
#if defined(__AVX512VNNI__)
  sum = reinterpret_cast<IntLanes>(_mm512_dpwssd_epi32(
      reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX512BW__)
  sum += reinterpret_cast<IntLanes>(
      _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  __m256i x[2];
  __m256i y[2];
  std::memcpy(x, &a, sizeof(x));
  std::memcpy(y, &b, sizeof(y));
  for (int half = 0; half < 2; ++half) x[half] = _mm256_madd_epi16(x[half], y[half]);
  IntLanes products;
  std::memcpy(&products, x, sizeof(products));
  sum += products;
#else
  sum += ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

// out(r, 0..31) (+)= scales times the sum over k of a(r, k) panel(k, 0..31).
template <std::int64_t rows>
void tile_product(const IntegerRows& a, std::int64_t chunk, std::int64_t pairs, const std::int16_t* panel,
                  const float* panel_scales, bool resume, float* out, std::int64_t stride) {
  // Of every third row: from one, x86 addresses the next two by a multiple of the stride.
  const std::int16_t* left[(rows + 2) / 3];
  for (std::int64_t i = 0; i < (rows + 2) / 3; ++i)
    left[i] = a.values + 3 * i * a.stride + chunk * chunk_depth;
  const std::int64_t stride_of_a = a.stride;
  IntLanes sums[rows][panel_lanes] = {};
  for (std::int64_t k = 0; k < pairs; ++k) {
    // Lane by lane: an array that is copied as a whole would pass through memory.
    IntLanes b[panel_lanes];
#pragma GCC unroll 4
    for (std::int64_t lane = 0; lane < panel_lanes; ++lane) {
      IntLanes part;
      std::memcpy(&part, panel + k * 2 * integer_panel_width + lane * 2 * float_lane_count, sizeof(part));
      b[lane] = part;
    }
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < rows; ++r) {
      std::int32_t pair;
      std::memcpy(&pair, left[r / 3] + r % 3 * stride_of_a + 2 * k, sizeof(pair));
      const IntLanes factor = pair + IntLanes{};
#pragma GCC unroll 4
      for (std::int64_t lane = 0; lane < panel_lanes; ++lane) add_pairs(sums[r][lane], factor, b[lane]);
    }
  }
#pragma GCC unroll 16
  for (std::int64_t r = 0; r < rows; ++r) {
    const float row_scale = a.scales[r * a.scale_stride + chunk];
#pragma GCC unroll 4
    for (std::int64_t lane = 0; lane < panel_lanes; ++lane) {
      FloatLanes scale;
      std::memcpy(&scale, panel_scales + lane * float_lane_count, sizeof(scale));
      FloatLanes total = __builtin_convertvector(sums[r][lane], FloatLanes) * (scale * row_scale);
      float* place = out + r * stride + lane * float_lane_count;
      if (resume) {
        FloatLanes before;
        std::memcpy(&before, place, sizeof(before));
        total += before;
      }
      std::memcpy(place, &total, sizeof(total));
    }
  }
}

// The integers nearest to x, ties to even, |x| < 2^22.
inline ShortLanes rounded(const FloatLanes& x) {
  const FloatLanes shifted = x + rounding_shift;
  IntLanes bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  return __builtin_convertvector(bits, ShortLanes);
}

inline FloatLanes magnitude(const FloatLanes& x) {
  return x < 0.0F ? -x : x;
}

Scale chunk_scale(const float* x, std::int64_t count) {
  FloatLanes plain = {};
  for (std::int64_t i = 0; i < count; i += float_lane_count) plain += load_lanes(x + i) * load_lanes(x + i);
  float plain_total = 0.0F;
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane) plain_total += plain[lane];
  if (plain_total > least_squares && plain_total < most_squares) return scale_of(1.0F, plain_total);
  FloatLanes largest_lanes = {};
  for (std::int64_t i = 0; i < count; i += float_lane_count) {
    const FloatLanes size = magnitude(load_lanes(x + i));
    largest_lanes = size > largest_lanes ? size : largest_lanes;
  }
  float largest = 0.0F;
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane)
    largest = std::max(largest, largest_lanes[lane]);
  const float inverse = inverse_of(largest);
  FloatLanes squares = {};
  for (std::int64_t i = 0; i < count; i += float_lane_count) {
    const FloatLanes share = load_lanes(x + i) * inverse;
    squares += share * share;
  }
  float total = 0.0F;
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane) total += squares[lane];
  return scale_of(largest, total);
}

}  // namespace

void round_row(const float* x, std::int64_t count, std::int16_t* values, float* scales) {
  for (std::int64_t begin = 0; begin < count; begin += chunk_depth) {
    const std::int64_t terms = std::min(chunk_depth, count - begin);
    const Scale scale = chunk_scale(x + begin, terms);
    for (std::int64_t i = begin; i < begin + terms; i += float_lane_count) {
      const ShortLanes integers = rounded(load_lanes(x + i) * scale.factor);
      std::memcpy(values + i, &integers, sizeof(integers));
    }
    scales[begin / chunk_depth] = scale.inverse;
  }
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
  const std::int64_t size = round_up(depth, 2) * padded_cols_;
  values_.reserve(size);
  std::fill_n(values_.data(), size, std::int16_t{0});
  scales_.reserve(num_chunks(depth) * padded_cols_);
  std::fill_n(scales_.data(), num_chunks(depth) * padded_cols_, 0.0F);
}

void IntegerPanels::assign_transposed(HostView<const float> x) {
  shape(x.cols, x.rows);
  const std::int64_t padded = round_up(x.cols, float_lane_count);
  row_.reserve(padded);
  std::fill_n(row_.data(), padded, 0.0F);
  rounded_.reserve(padded);
  std::int64_t chunk_scales_size = num_chunks(x.cols);
  column_.reserve(chunk_scales_size);
  for (std::int64_t j = 0; j < x.rows; ++j) {
    std::copy_n(x.row(j), x.cols, row_.data());
    round_row(row_.data(), x.cols, rounded_.data(), column_.data());
    for (std::int64_t chunk = 0; chunk < chunk_scales_size; ++chunk) {
      scales_.data()[chunk * padded_cols_ + j] = column_.data()[chunk];
      std::int16_t* out = mutable_panel(chunk, j / integer_panel_width) + j % integer_panel_width * 2;
      const std::int16_t* in = rounded_.data() + chunk * chunk_depth;
      for (std::int64_t k = 0; k < padded_depth(chunk); k += 2) {
        std::memcpy(out + k * integer_panel_width, in + k, 2 * sizeof(std::int16_t));
      }
    }
  }
}

void IntegerPanels::assign(HostView<const float> x) {
  shape(x.rows, x.cols);
  const std::int64_t padded = round_up(x.cols, float_lane_count);
  row_.reserve(padded);
  column_.reserve(padded);
  rounded_.reserve(padded);
  float* largest = row_.data();
  float* squares = column_.data();
  for (std::int64_t chunk = 0; chunk < num_chunks(x.rows); ++chunk) {
    const std::int64_t begin = chunk * chunk_depth;
    const std::int64_t end = std::min(begin + chunk_depth, x.rows);
    std::fill_n(largest, x.cols, 0.0F);
    std::fill_n(squares, x.cols, 0.0F);
    for (std::int64_t k = begin; k < end; ++k) {
      for (std::int64_t j = 0; j < x.cols; ++j) largest[j] = std::max(largest[j], std::abs(x.row(k)[j]));
    }
    for (std::int64_t k = begin; k < end; ++k) {
      for (std::int64_t j = 0; j < x.cols; ++j) {
        const float share = x.row(k)[j] * inverse_of(largest[j]);
        squares[j] += share * share;
      }
    }
    float* factors = largest;  // takes its place, column by column
    for (std::int64_t j = 0; j < x.cols; ++j) {
      const Scale scale = scale_of(largest[j], squares[j]);
      factors[j] = scale.factor;
      scales_.data()[chunk * padded_cols_ + j] = scale.inverse;
    }
    for (std::int64_t k = begin; k < end; ++k) {
      for (std::int64_t j = 0; j < x.cols; ++j) {
        const float shifted = x.row(k)[j] * factors[j] + rounding_shift;
        std::int32_t bits;
        std::memcpy(&bits, &shifted, sizeof(bits));
        rounded_.data()[j] = static_cast<std::int16_t>(bits);
      }
      for (std::int64_t j = 0; j < x.cols; ++j) {
        std::int16_t* out = mutable_panel(chunk, j / integer_panel_width);
        const std::int64_t pair = (k - begin) / 2;
        out[(pair * integer_panel_width + j % integer_panel_width) * 2 + (k - begin) % 2] =
            rounded_.data()[j];
      }
    }
  }
}

void integer_product(const IntegerRows& a, std::int64_t rows, std::int64_t depth, const IntegerPanels& b,
                     std::int64_t cols, float* c, std::int64_t c_stride) {
  const std::int64_t panels = round_up(cols, integer_panel_width) / integer_panel_width;
  for (std::int64_t chunk = 0; chunk < num_chunks(depth); ++chunk) {
    const std::int64_t pairs = (std::min(chunk_depth, depth - chunk * chunk_depth) + 1) / 2;
    for (std::int64_t p = 0; p < panels; ++p) {
      const auto multiply = [&]<std::int64_t count>(std::int64_t r) {
        tile_product<count>(a.from(r), chunk, pairs, b.panel(chunk, p), b.scales(chunk, p), chunk > 0,
                            c + r * c_stride + p * integer_panel_width, c_stride);
      };
      std::int64_t r = 0;
      for (; r + tile_rows <= rows; r += tile_rows) multiply.template operator()<tile_rows>(r);
      for (; r + part_tile_rows <= rows; r += part_tile_rows) multiply.template operator()<part_tile_rows>(r);
      for (; r < rows; ++r) multiply.template operator()<1>(r);
    }
  }
}

}  // namespace rotorquant::evaluation
