#pragma once
// Squares of sixteen by sixteen numbers, transposed in registers.
#include "rotorquant/core/avx512.hpp"

namespace rotorquant::avx512 {

// rows[i] lane j -> rows[j] lane i.
ROTORQUANT_AVX512_INLINE void transpose_sixteen(__m512 (&rows)[16]) {
  __m512 t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
  }
  __m512 u[16];
  for (int i = 0; i < 4; ++i) {
    for (int h = 0; h < 2; ++h) {
      const __m512d low = _mm512_castps_pd(t[4 * i + h]);
      const __m512d high = _mm512_castps_pd(t[4 * i + 2 + h]);
      u[4 * i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      u[4 * i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  // u[4 i + c]: quarters q of rows 4 i .. 4 i + 3, column 4 q + c.
  for (int c = 0; c < 4; ++c) {
    const __m512 even_low = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88);
    const __m512 odd_low = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xDD);
    const __m512 even_high = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
    const __m512 odd_high = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xDD);
    rows[c] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    rows[8 + c] = _mm512_shuffle_f32x4(even_low, even_high, 0xDD);
    rows[4 + c] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    rows[12 + c] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xDD);
  }
}

// Two squares of 16-bit numbers, side by side: rows[i] holds rows i of both; so does the result.
ROTORQUANT_AVX512_INLINE void transpose_halves(__m512i (&rows)[16]) {
  __m512i t[16], u[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi16(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi16(rows[2 * i], rows[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    for (int h = 0; h < 2; ++h) {
      u[4 * i + 2 * h] = _mm512_unpacklo_epi32(t[4 * i + h], t[4 * i + 2 + h]);
      u[4 * i + 2 * h + 1] = _mm512_unpackhi_epi32(t[4 * i + h], t[4 * i + 2 + h]);
    }
  }
  // u[4 i + c], quarter q: rows 4 i .. 4 i + 3, columns 8 (q mod 2) + 2 c and the next.
  for (int c = 0; c < 4; ++c) {
    const __m512i low_even = _mm512_unpacklo_epi64(u[c], u[4 + c]);  // rows 0..7, columns 8 l + 2 c
    const __m512i low_odd = _mm512_unpackhi_epi64(u[c], u[4 + c]);   // and 8 l + 2 c + 1
    const __m512i high_even = _mm512_unpacklo_epi64(u[8 + c], u[12 + c]);
    const __m512i high_odd = _mm512_unpackhi_epi64(u[8 + c], u[12 + c]);
    const __m512i left = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    const __m512i right = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    rows[2 * c] = _mm512_permutex2var_epi64(low_even, left, high_even);
    rows[2 * c + 1] = _mm512_permutex2var_epi64(low_odd, left, high_odd);
    rows[8 + 2 * c] = _mm512_permutex2var_epi64(low_even, right, high_even);
    rows[8 + 2 * c + 1] = _mm512_permutex2var_epi64(low_odd, right, high_odd);
  }
}

// One of them: rows[i] lane j -> rows[j] lane i.
ROTORQUANT_AVX512_INLINE void transpose_halves(__m256i (&rows)[16]) {
  __m256i t[16], u[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm256_unpacklo_epi16(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_epi16(rows[2 * i], rows[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    for (int h = 0; h < 2; ++h) {
      u[4 * i + 2 * h] = _mm256_unpacklo_epi32(t[4 * i + h], t[4 * i + 2 + h]);
      u[4 * i + 2 * h + 1] = _mm256_unpackhi_epi32(t[4 * i + h], t[4 * i + 2 + h]);
    }
  }
  // u[4 i + c], half q: rows 4 i .. 4 i + 3, columns 8 q + 2 c and the next.
  for (int c = 0; c < 4; ++c) {
    const __m256i low_even = _mm256_unpacklo_epi64(u[c], u[4 + c]);
    const __m256i low_odd = _mm256_unpackhi_epi64(u[c], u[4 + c]);
    const __m256i high_even = _mm256_unpacklo_epi64(u[8 + c], u[12 + c]);
    const __m256i high_odd = _mm256_unpackhi_epi64(u[8 + c], u[12 + c]);
    rows[2 * c] = _mm256_permute2x128_si256(low_even, high_even, 0x20);
    rows[2 * c + 1] = _mm256_permute2x128_si256(low_odd, high_odd, 0x20);
    rows[8 + 2 * c] = _mm256_permute2x128_si256(low_even, high_even, 0x31);
    rows[8 + 2 * c + 1] = _mm256_permute2x128_si256(low_odd, high_odd, 0x31);
  }
}

}  // namespace rotorquant::avx512
