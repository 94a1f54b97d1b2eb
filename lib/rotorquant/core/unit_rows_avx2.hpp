#pragma once
// Norms of rows and the factors that make them unit vectors (unit_factors.hpp), four rows at a time. Include
// only where __x86_64__ is defined.
#include <bit>
#include <cmath>

#include "rotorquant/core/avx2.hpp"
#include "rotorquant/core/squares_avx2.hpp"
#include "rotorquant/core/unit_factors.hpp"

namespace rotorquant::avx2 {

// float32(||x(r)||), the sum in float64 in dot_product.hpp's order.
template <ElementType type>
ROTORQUANT_AVX2_INLINE float exact_norm(const ConstHostTensor& x, std::int64_t r) {
  DoubleSquares squares;
  for (std::int64_t c = 0; c < x.cols; c += lanes) squares.add(load<type>(x.row(r), c, x.cols - c));
  return static_cast<float>(std::sqrt(squares.total()));
}

inline constexpr int measured_rows = 4;

// fold() of four rows' sums.
ROTORQUANT_AVX2_INLINE __m128 fold_four(const __m256 (&sums)[measured_rows][2]) {
  __m128 rows[measured_rows];
  for (int i = 0; i < measured_rows; ++i) {
    const __m256 eight = _mm256_add_ps(sums[i][0], sums[i][1]);
    rows[i] = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  }
  _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
  return _mm_add_ps(_mm_add_ps(rows[0], rows[2]), _mm_add_ps(rows[1], rows[3]));
}

// Norms of rows [first, first + 4), or as many of them as x has, and their factors [4]. `each(i, c, numbers)`
// is handed all their numbers on the way, those from coordinate c on, eight at a time with zeros beyond the
// row's end; rows that x has not are its last one.
template <ElementType type, typename Each>
ROTORQUANT_AVX2_INLINE __m128 measure_rows(const ConstHostTensor& x, std::int64_t first, float* norms,
                                           const Each& each) {
  const std::uint8_t* row[measured_rows];
  __m256 sums[measured_rows][2];
  for (int i = 0; i < measured_rows; ++i) {
    row[i] = x.row(std::min(first + i, x.rows - 1));
    sums[i][0] = sums[i][1] = _mm256_setzero_ps();
  }
  std::int64_t c = 0;
  for (; c + 2 * lanes <= x.cols; c += 2 * lanes) {
    for (int i = 0; i < measured_rows; ++i) {
      for (int half = 0; half < 2; ++half) {
        const __m256 numbers = load<type>(row[i], c + half * lanes);
        sums[i][half] = add_float_squares<type>(sums[i][half], numbers);
        each(i, c + half * lanes, numbers);
      }
    }
  }
  for (int half = 0; c < x.cols; c += lanes, ++half) {
    for (int i = 0; i < measured_rows; ++i) {
      const __m256 numbers = load<type>(row[i], c, x.cols - c);
      sums[i][half] = add_float_squares<type>(sums[i][half], numbers);
      each(i, c, numbers);
    }
  }

  const __m128 squares = fold_four(sums);
  __m128 found = _mm_sqrt_ps(squares);
  const __m128 in_range = _mm_and_ps(_mm_cmpge_ps(squares, _mm_set1_ps(least_float_square)),
                                     _mm_cmple_ps(squares, _mm_set1_ps(most_float_square)));
  float values[measured_rows];
  unsigned doubtful = ~static_cast<unsigned>(_mm_movemask_ps(in_range)) & ((1U << measured_rows) - 1U);
  if (doubtful != 0) {
    _mm_storeu_ps(values, found);
    for (; doubtful != 0; doubtful &= doubtful - 1) {
      const int i = std::countr_zero(doubtful);
      values[i] = exact_norm<type>(x, std::min(first + i, x.rows - 1));
    }
    found = _mm_loadu_ps(values);
  }
  if (first + measured_rows <= x.rows) {
    _mm_storeu_ps(norms + first, found);
  } else {
    _mm_storeu_ps(values, found);
    std::copy_n(values, x.rows - first, norms + first);
  }
  return _mm_div_ps(_mm_set1_ps(1.0F), _mm_max_ps(found, _mm_set1_ps(norm_floor)));
}

}  // namespace rotorquant::avx2
