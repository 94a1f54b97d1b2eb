#pragma once
// Sums over the sixteen lanes of a register, in the order in which plain loops add sixteen running sums: the
// upper half to the lower half until one is left.
#include "rotorquant/core/avx512.hpp"

namespace rotorquant::avx512 {

ROTORQUANT_AVX512_INLINE float fold(__m512 sums) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

ROTORQUANT_AVX512_INLINE __m128 fold_to_four(__m512 sums) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

// fold() of four rows.
ROTORQUANT_AVX512_INLINE __m128 fold_four(__m512 a, __m512 b, __m512 c, __m512 d) {
  __m128 rows[4] = {fold_to_four(a), fold_to_four(b), fold_to_four(c), fold_to_four(d)};
  _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
  return _mm_add_ps(_mm_add_ps(rows[0], rows[2]), _mm_add_ps(rows[1], rows[3]));
}

// dot_product.hpp's order: eight running sums in float64, added pairwise at the end. Products of float32
// numbers are exact in float64, so that fusing them changes nothing.
ROTORQUANT_AVX512_INLINE __m512d add_squares(__m512d sums, __m512 x) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
  sums = _mm512_fmadd_pd(low, low, sums);
  return _mm512_fmadd_pd(high, high, sums);
}

ROTORQUANT_AVX512_INLINE double total(__m512d sums) {
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(sums), _mm512_extractf64x4_pd(sums, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

}  // namespace rotorquant::avx512
