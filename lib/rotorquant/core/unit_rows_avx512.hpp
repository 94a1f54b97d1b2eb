#pragma once
// Norms of rows and the factors that make them unit vectors (unit_factors.hpp), four rows at a time.
#include <algorithm>
#include <bit>
#include <cmath>

#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/folds_avx512.hpp"
#include "rotorquant/core/unit_factors.hpp"

namespace rotorquant::avx512 {

// float32(||x(r)||), the sum in float64.
template <ElementType type>
ROTORQUANT_AVX512_INLINE float exact_norm(const ConstHostTensor& x, std::int64_t r) {
  const std::int64_t whole = x.cols / lanes * lanes;
  __m512d sums = _mm512_setzero_pd();
  for (std::int64_t c = 0; c < whole; c += lanes) sums = add_squares(sums, load<type>(x.row(r), c));
  if (const __mmask16 rest = lanes_below(x.cols - whole); rest != 0)
    sums = add_squares(sums, load<type>(x.row(r), whole, rest));
  return static_cast<float>(std::sqrt(total(sums)));
}

// Squares of fp16 numbers are exact in float32, so that fusing them changes nothing.
template <ElementType type>
ROTORQUANT_AVX512_INLINE __m512 add_float_squares(__m512 sums, __m512 x) {
  if constexpr (type == ElementType::float16) return _mm512_fmadd_ps(x, x, sums);
  return _mm512_add_ps(sums, _mm512_mul_ps(x, x));
}

inline constexpr int measured_rows = 4;

// Norms and factors of rows [first, first + 4), or as many of them as x has. `each(i, chunk, numbers)` is
// handed all their numbers on the way, 16 at a time with zeros beyond the row's end; rows that x has not are
// its last one.
template <ElementType type, typename Each>
ROTORQUANT_AVX512_INLINE void measure_rows(const ConstHostTensor& x, std::int64_t first, float* norms,
                                           float* factors, const Each& each) {
  const std::int64_t whole = x.cols / lanes;
  const __mmask16 rest = lanes_below(x.cols - whole * lanes);
  const std::uint8_t* row[measured_rows];
  __m512 sums[measured_rows];
  for (int i = 0; i < measured_rows; ++i) {
    row[i] = x.row(std::min(first + i, x.rows - 1));
    sums[i] = _mm512_setzero_ps();
  }
  const auto add = [&](int i, std::int64_t chunk, __m512 numbers) ROTORQUANT_AVX512_LAMBDA {
    sums[i] = add_float_squares<type>(sums[i], numbers);
    each(i, chunk, numbers);
  };
#pragma GCC unroll 4
  for (std::int64_t chunk = 0; chunk < whole; ++chunk) {
    for (int i = 0; i < measured_rows; ++i) add(i, chunk, load<type>(row[i], chunk * lanes));
  }
  for (int i = 0; i < measured_rows && rest != 0; ++i) add(i, whole, load<type>(row[i], whole * lanes, rest));

  const __m128 squares = fold_four(sums[0], sums[1], sums[2], sums[3]);
  __m128 found = _mm_sqrt_ps(squares);
  const __m128 in_range = _mm_and_ps(_mm_cmpge_ps(squares, _mm_set1_ps(least_float_square)),
                                     _mm_cmple_ps(squares, _mm_set1_ps(most_float_square)));
  unsigned doubtful = ~static_cast<unsigned>(_mm_movemask_ps(in_range)) & ((1U << measured_rows) - 1U);
  if (doubtful != 0) {
    float values[measured_rows];
    _mm_storeu_ps(values, found);
    for (; doubtful != 0; doubtful &= doubtful - 1) {
      const int i = std::countr_zero(doubtful);
      values[i] = exact_norm<type>(x, std::min(first + i, x.rows - 1));
    }
    found = _mm_loadu_ps(values);
  }
  const __m128 divisors = _mm_max_ps(found, _mm_set1_ps(norm_floor));
  const __m128 reciprocals = _mm_div_ps(_mm_set1_ps(1.0F), divisors);
  if (first + measured_rows <= x.rows) {
    _mm_storeu_ps(norms + first, found);
    _mm_storeu_ps(factors + first, reciprocals);
  } else {
    const auto valid = static_cast<__mmask8>((1U << (x.rows - first)) - 1U);
    _mm_mask_storeu_ps(norms + first, valid, found);
    _mm_mask_storeu_ps(factors + first, valid, reciprocals);
  }
}

// norms [x.rows] and factors [x.rows].
template <ElementType type>
ROTORQUANT_AVX512 void unit_factors(const ConstHostTensor& x, float* norms, float* factors) {
  for (std::int64_t first = 0; first < x.rows; first += measured_rows)
    measure_rows<type>(x, first, norms, factors, [](int, std::int64_t, __m512) ROTORQUANT_AVX512_LAMBDA {});
}

}  // namespace rotorquant::avx512
