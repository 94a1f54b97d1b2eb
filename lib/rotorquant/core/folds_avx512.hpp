#pragma once
// Sums over the sixteen lanes of a register, in the order in which plain loops add sixteen running sums: the upper
// half to the lower half until one is left.
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

}  // namespace rotorquant::avx512
