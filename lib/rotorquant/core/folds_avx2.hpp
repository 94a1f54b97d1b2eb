#pragma once
// Sums of eight rows, a lane for each. Include only where __x86_64__ is defined.
#include "rotorquant/core/avx2.hpp"

namespace rotorquant::avx2 {

// What fold() of avx2.hpp does, of `count` running sums that are registers of their own: halves added until
// one is left.
template <int count>
ROTORQUANT_AVX2_INLINE __m256 fold_columns(__m256 (&sums)[count]) {
#pragma GCC unroll 4
  for (int half = count / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) sums[i] = _mm256_add_ps(sums[i], sums[i + half]);
  }
  return sums[0];
}

}  // namespace rotorquant::avx2
