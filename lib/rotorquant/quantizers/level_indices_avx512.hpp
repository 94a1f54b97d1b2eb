#pragma once
// The indices of sixteen numbers among the levels of one width, by its tree of boundaries. Internal to
// lib/rotorquant/quantizers.
#include "rotorquant/core/avx512.hpp"
#include "rotorquant/quantizers/level_search.hpp"

namespace rotorquant::avx512 {

// Entries [2^width, 2^(width + 1)) of a tree, or of levels where `place` counts from there.
ROTORQUANT_AVX512_INLINE __m512 look_up(const float* table, int entries, __m512i place) {
  if (entries <= 16) return _mm512_permutexvar_ps(place, _mm512_loadu_ps(table));
  if (entries == 32)
    return _mm512_permutex2var_ps(_mm512_loadu_ps(table), place, _mm512_loadu_ps(table + 16));
  return _mm512_i32gather_ps(place, table, sizeof(float));
}

// The indices of y among the levels of a width.
ROTORQUANT_AVX512_INLINE __m512i indices_of(const NormalLevels& levels, int width, __m512 y) {
  const __m512i one = _mm512_set1_epi32(1);
  __m512i place = one;
  for (int step = 1; step <= width; ++step) {
    const __mmask16 above = _mm512_cmp_ps_mask(y, look_up(levels.tree(), 1 << step, place), _CMP_GT_OQ);
    place = _mm512_add_epi32(place, place);
    place = _mm512_mask_add_epi32(place, above, place, one);
  }
  return _mm512_sub_epi32(place, _mm512_set1_epi32(1 << width));
}

}  // namespace rotorquant::avx512
