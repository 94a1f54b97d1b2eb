// Vectors as rows to vectors coordinate by coordinate, and back, eight at a time.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <bit>

#include "rotorquant/core/folds_avx2.hpp"
#include "rotorquant/core/load_transposed_avx2.hpp"
#include "rotorquant/core/transpose_avx2.hpp"
#include "rotorquant/core/unit_rows_avx2.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

constexpr std::int64_t two_registers = 2 * lanes;

// put(i, column i) of the 16 coordinates of eight rows from coordinate c on.
template <ElementType type, typename Put>
ROTORQUANT_AVX2_INLINE void split_halves(const std::uint8_t* const (&rows)[lanes], std::int64_t c,
                                         const Put& put) {
  if constexpr (type == ElementType::bfloat16) {
    // Two coordinates move as one 32-bit number, whose upper and lower halves are the upper halves of theirs.
    __m256 pairs[lanes];
    load_transposed(
        [&](int r) ROTORQUANT_AVX2_LAMBDA { return reinterpret_cast<const float*>(rows[r] + 2 * c); }, pairs);
#pragma GCC unroll 8
    for (int i = 0; i < lanes; ++i) {
      const __m256i both = _mm256_castps_si256(pairs[i]);
      put(2 * i, _mm256_castsi256_ps(_mm256_slli_epi32(both, 16)));
      put(2 * i + 1, _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-0x10000))));
    }
  } else {
    __m256i block[lanes];
#pragma GCC unroll 8
    for (int r = 0; r < lanes; ++r)
      block[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r] + 2 * c));
    transpose_halves(block);
#pragma GCC unroll 8
    for (int i = 0; i < lanes; ++i) {
      put(i, widen<type>(_mm256_castsi256_si128(block[i])));
      put(lanes + i, widen<type>(_mm256_extracti128_si256(block[i], 1)));
    }
  }
}

// Rows [first, first + 8) of x to eight lanes of columns, times their factors [8] unless null. The lanes of
// rows that x has not are those of its last one.
template <ElementType type, bool scaled>
ROTORQUANT_AVX2_INLINE void eight_to_columns(const ConstHostTensor& x, std::int64_t first,
                                             const float* factors, float* columns) {
  const std::uint8_t* rows[lanes];
  for (std::int64_t r = 0; r < lanes; ++r) rows[r] = x.row(std::min(first + r, x.rows - 1));
  const std::int64_t dim = x.cols;
  const __m256 factor = scaled ? _mm256_loadu_ps(factors) : _mm256_setzero_ps();
  const auto put = [&](std::int64_t c, __m256 column) ROTORQUANT_AVX2_LAMBDA {
    if constexpr (scaled) column = _mm256_mul_ps(column, factor);
    _mm256_store_ps(columns + c * column_lanes, column);
  };
  std::int64_t c = 0;
  if constexpr (type != ElementType::float32) {
    for (; c + two_registers <= dim; c += two_registers) {
      split_halves<type>(rows, c, [&](int i, __m256 column) ROTORQUANT_AVX2_LAMBDA { put(c + i, column); });
    }
  }
  for (; c < dim; c += lanes) {
    __m256 block[lanes];
#pragma GCC unroll 8
    for (int r = 0; r < lanes; ++r) block[r] = load<type>(rows[r], c, dim - c);
    transpose_eight(block);
#pragma GCC unroll 8
    for (int i = 0; i < lanes; ++i) {
      if (c + i < dim) put(c + i, block[i]);
    }
  }
}

template <ElementType type>
ROTORQUANT_AVX2 void to_columns(const ConstHostTensor& x, const float* factors, float* columns) {
  alignas(32) float own[column_lanes] = {};
  std::copy_n(factors, x.rows, own);
  for (std::int64_t first = 0; first < column_lanes; first += lanes)
    eight_to_columns<type, true>(x, first, own + first, columns + first);
}

// The squares of eight vectors' coordinates [dim], added in the order of scalar_kernels.hpp.
template <ElementType type>
ROTORQUANT_AVX2_INLINE __m256 sums_of_squares(const float* columns, std::int64_t dim) {
  constexpr int running = 16;
  __m256 sums[running];
#pragma GCC unroll 2
  for (int half = 0; half < running; half += lanes) {
#pragma GCC unroll 8
    for (int i = 0; i < lanes; ++i) sums[half + i] = _mm256_setzero_ps();
    const auto add = [&](int i, std::int64_t c) ROTORQUANT_AVX2_LAMBDA {
      const __m256 column = _mm256_load_ps(columns + c * column_lanes);
      sums[half + i] = add_float_squares<type>(sums[half + i], column);
    };
    std::int64_t c = half;
    for (; c + lanes <= dim; c += running) {
#pragma GCC unroll 8
      for (int i = 0; i < lanes; ++i) add(i, c + i);
    }
#pragma GCC unroll 8
    for (int i = 0; i < lanes; ++i) {
      if (c + i < dim) add(i, c + i);
    }
  }
  return fold_columns(sums);
}

template <ElementType type>
ROTORQUANT_AVX2 void unit_rows_to_columns(const ConstHostTensor& x, float* norms, float* factors,
                                          float* columns) {
  alignas(32) float found[column_lanes];
  unsigned in_range = 0;
  for (std::int64_t first = 0; first < column_lanes; first += lanes) {
    eight_to_columns<type, false>(x, first, nullptr, columns + first);
    const __m256 squares = sums_of_squares<type>(columns + first, x.cols);
    const __m256 usual = _mm256_and_ps(_mm256_cmp_ps(squares, _mm256_set1_ps(least_float_square), _CMP_GE_OQ),
                                       _mm256_cmp_ps(squares, _mm256_set1_ps(most_float_square), _CMP_LE_OQ));
    in_range |= static_cast<unsigned>(_mm256_movemask_ps(usual)) << first;
    _mm256_store_ps(found + first, _mm256_sqrt_ps(squares));
  }
  for (unsigned doubtful = ~in_range & ((1U << x.rows) - 1U); doubtful != 0; doubtful &= doubtful - 1) {
    const int r = std::countr_zero(doubtful);
    found[r] = exact_norm<type>(x, r);
  }
  for (std::int64_t first = 0; first < column_lanes; first += lanes) {
    const __m256 divisors = _mm256_max_ps(_mm256_load_ps(found + first), _mm256_set1_ps(norm_floor));
    _mm256_storeu_ps(factors + first, _mm256_div_ps(_mm256_set1_ps(1.0F), divisors));
  }
  std::copy_n(found, x.rows, norms);
}

// To the nearest even bfloat16 in the upper half of each lane, as narrow<>() rounds; of the lower half
// nothing is said.
ROTORQUANT_AVX2_INLINE __m256i round_upper_halves(__m256 values) {
  const __m256i word = _mm256_castps_si256(values);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(word, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(word, _mm256_set1_epi32(0x7FFF)), odd);
  const __m256i quiet = _mm256_or_si256(word, _mm256_set1_epi32(0x400000));
  const __m256 nan = _mm256_cmp_ps(values, values, _CMP_UNORD_Q);
  return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), nan));
}

// rows[r]: 16 coordinates of row r in 16 bits; column(i) those of eight rows in float32.
template <ElementType type, typename Column>
ROTORQUANT_AVX2_INLINE void join_halves(const Column& column, __m256i (&rows)[lanes]) {
  if constexpr (type == ElementType::bfloat16) {
    __m256 pairs[lanes];
#pragma GCC unroll 8
    for (int i = 0; i < lanes; ++i) {
      const __m256i even = _mm256_srli_epi32(round_upper_halves(column(2 * i)), 16);
      pairs[i] = _mm256_castsi256_ps(_mm256_blend_epi16(even, round_upper_halves(column(2 * i + 1)), 0xAA));
    }
    transpose_eight(pairs);
#pragma GCC unroll 8
    for (int r = 0; r < lanes; ++r) rows[r] = _mm256_castps_si256(pairs[r]);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < lanes; ++i)
      rows[i] = _mm256_set_m128i(narrow<type>(column(lanes + i)), narrow<type>(column(i)));
    transpose_halves(rows);
  }
}

template <ElementType type>
ROTORQUANT_AVX2_INLINE void eight_to_rows(const float* columns, std::int64_t first, __m256 factor,
                                          const HostTensor& rows) {
  const std::int64_t dim = rows.cols;
  const std::int64_t count = std::min(lanes, rows.rows - first);
  const auto column = [&](std::int64_t c) ROTORQUANT_AVX2_LAMBDA {
    return _mm256_mul_ps(_mm256_load_ps(columns + c * column_lanes), factor);
  };
  std::int64_t c = 0;
  if constexpr (type != ElementType::float32) {
    for (; c + two_registers <= dim; c += two_registers) {
      __m256i block[lanes];
      join_halves<type>([&](int i) ROTORQUANT_AVX2_LAMBDA { return column(c + i); }, block);
#pragma GCC unroll 8
      for (int r = 0; r < lanes; ++r) {
        if (r < count) _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows.row(first + r) + 2 * c), block[r]);
      }
    }
  }
  for (; c < dim; c += lanes) {
    __m256 block[lanes];
#pragma GCC unroll 8
    for (int i = 0; i < lanes; ++i) block[i] = c + i < dim ? column(c + i) : _mm256_setzero_ps();
    transpose_eight(block);
#pragma GCC unroll 8
    for (int r = 0; r < lanes; ++r) {
      if (r < count) store<type>(block[r], rows.row(first + r), c, dim - c);
    }
  }
}

template <ElementType type>
ROTORQUANT_AVX2 void to_rows(const float* columns, const float* factors, const HostTensor& rows) {
  alignas(32) float own[column_lanes] = {};
  std::copy_n(factors, rows.rows, own);
  for (std::int64_t first = 0; first < rows.rows; first += lanes)
    eight_to_rows<type>(columns + first, first, _mm256_load_ps(own + first), rows);
}

}  // namespace

void to_columns_avx2(const ConstHostTensor& x, const float* factors, float* columns) {
  dispatch_type(x.type, [&]<ElementType type>() { to_columns<type>(x, factors, columns); });
}

void unit_rows_to_columns_avx2(const ConstHostTensor& x, float* norms, float* factors, float* columns) {
  dispatch_type(x.type, [&]<ElementType type>() { unit_rows_to_columns<type>(x, norms, factors, columns); });
}

void to_rows_avx2(const float* columns, const float* factors, const HostTensor& rows) {
  dispatch_type(rows.type, [&]<ElementType type>() { to_rows<type>(columns, factors, rows); });
}

}  // namespace rotorquant
#endif
