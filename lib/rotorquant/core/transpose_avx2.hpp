#pragma once
// Transpositions of registers. Include only where __x86_64__ is defined.
#include "rotorquant/core/avx2.hpp"

namespace rotorquant::avx2 {

// Lane c of register r becomes lane r of register c.
ROTORQUANT_AVX2_INLINE void transpose_eight(__m256 (&rows)[8]) {
  __m256 pairs[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  // Four rows of columns i and 4 + i.
  __m256 fours[8];
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], _MM_SHUFFLE(1, 0, 1, 0));
    fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], _MM_SHUFFLE(3, 2, 3, 2));
    fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], _MM_SHUFFLE(1, 0, 1, 0));
    fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], _MM_SHUFFLE(3, 2, 3, 2));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
  }
}

// The same in each half of registers of 16-bit numbers: eight rows of 16 coordinates become coordinate i of
// all rows in the lower half of register i, and coordinate 8 + i in its upper half; and back.
ROTORQUANT_AVX2_INLINE void transpose_halves(__m256i (&rows)[8]) {
  __m256i pairs[8];  // two rows of four coordinates
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    pairs[i] = _mm256_unpacklo_epi16(rows[2 * i], rows[2 * i + 1]);
    pairs[4 + i] = _mm256_unpackhi_epi16(rows[2 * i], rows[2 * i + 1]);
  }
  __m256i fours[8];  // four rows of two coordinates: the first four rows of coordinates 2 i, then the others
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_unpacklo_epi32(pairs[i], pairs[i + 1]);
    fours[i + 1] = _mm256_unpacklo_epi32(pairs[i + 2], pairs[i + 3]);
    fours[i + 2] = _mm256_unpackhi_epi32(pairs[i], pairs[i + 1]);
    fours[i + 3] = _mm256_unpackhi_epi32(pairs[i + 2], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    rows[i] = _mm256_unpacklo_epi64(fours[i], fours[i + 1]);
    rows[i + 1] = _mm256_unpackhi_epi64(fours[i], fours[i + 1]);
  }
}

}  // namespace rotorquant::avx2
