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

// Two squares of 16-bit numbers, side by side: rows[i] holds rows i of both; so does the result.
ROTORQUANT_AVX2_INLINE void transpose_halves(__m256i (&rows)[8]) {
  __m256i pairs[8], fours[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_epi16(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi16(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    // Four rows of columns 0 and 1, 2 and 3, 4 and 5, 6 and 7.
    fours[i] = _mm256_unpacklo_epi32(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm256_unpackhi_epi32(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm256_unpacklo_epi32(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm256_unpackhi_epi32(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    rows[2 * i] = _mm256_unpacklo_epi64(fours[i], fours[i + 4]);
    rows[2 * i + 1] = _mm256_unpackhi_epi64(fours[i], fours[i + 4]);
  }
}

}  // namespace rotorquant::avx2
