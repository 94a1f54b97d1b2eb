#pragma once
// The indices of sixteen numbers among the levels of one width, by its tree of boundaries. Internal to
// lib/rotorquant/quantizers.
#include "rotorquant/core/avx512.hpp"
#include "rotorquant/quantizers/level_search.hpp"
#include "rotorquant/quantizers/register_tables_avx512.hpp"

namespace rotorquant::avx512 {

// The indices of y among the levels of a width.
ROTORQUANT_AVX512_INLINE __m512i indices_of(const NormalLevels& levels, int width, __m512 y) {
  const __m512i one = _mm512_set1_epi32(1);
  __m512i place = one;
  for (int step = 1; step <= width; ++step) {
    // Entries [2^step, 2^(step + 1)) of the tree.
    const __mmask16 above = _mm512_cmp_ps_mask(y, look_up(levels.tree(), 1 << step, place), _CMP_GT_OQ);
    place = _mm512_add_epi32(place, place);
    place = _mm512_mask_add_epi32(place, above, place, one);
  }
  return _mm512_sub_epi32(place, _mm512_set1_epi32(1 << width));
}

}  // namespace rotorquant::avx512
