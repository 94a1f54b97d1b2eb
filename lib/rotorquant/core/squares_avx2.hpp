#pragma once
// Sums of squares, in float32 and in float64. Include only where __x86_64__ is defined.
#include "rotorquant/core/avx2.hpp"

namespace rotorquant::avx2 {

// Squares of fp16 numbers are exact in float32, so that fusing them changes nothing.
template <ElementType type>
ROTORQUANT_AVX2_INLINE __m256 add_float_squares(__m256 sums, __m256 x) {
  if constexpr (type == ElementType::float16) return _mm256_fmadd_ps(x, x, sums);
  return _mm256_add_ps(sums, _mm256_mul_ps(x, x));
}

// dot_product.hpp's order: eight running sums in float64, added pairwise at the end. Squares of float32
// numbers are exact in float64, so that fusing them changes nothing.
class DoubleSquares {
 public:
  ROTORQUANT_AVX2_INLINE void add(__m256 x) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
    low_ = _mm256_fmadd_pd(low, low, low_);
    high_ = _mm256_fmadd_pd(high, high, high_);
  }
  ROTORQUANT_AVX2_INLINE double total() const {
    const __m256d four = _mm256_add_pd(low_, high_);
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }

 private:
  __m256d low_{}, high_{};
};

}  // namespace rotorquant::avx2
