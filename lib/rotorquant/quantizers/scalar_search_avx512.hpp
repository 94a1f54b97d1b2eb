#pragma once
// The number of boundaries strictly below each of 16 coordinates, as masks: mask j is bit j of the indices.
// Internal to lib/rotorquant/quantizers.
#include "rotorquant/codes/plane_registers_avx512.hpp"
#include "rotorquant/quantizers/scalar_kernels.hpp"

namespace rotorquant::avx512 {

// Boundaries of the first three levels of the search in registers, the next ones in the tables.
struct Thresholds {
  __m512 middle, quarters[2], eighths[4];
};

ROTORQUANT_AVX512_INLINE Thresholds load_thresholds(const ScalarTables& tables) {
  const float* tree = tables.tree.data();
  Thresholds thresholds;
  thresholds.middle = _mm512_set1_ps(tree[1]);
  for (int i = 0; i < 2; ++i) thresholds.quarters[i] = _mm512_set1_ps(tree[2 + i]);
  for (int i = 0; i < 4; ++i) thresholds.eighths[i] = _mm512_set1_ps(tree[4 + i]);
  return thresholds;
}

// masks[j] is bit j of the indices of y.
template <int bits>
ROTORQUANT_AVX512_INLINE void search(const Thresholds& thresholds, const float* tree, __m512 y,
                                     __mmask16 (&masks)[bits]) {
  const __mmask16 upper = _mm512_cmp_ps_mask(y, thresholds.middle, _CMP_GT_OQ);
  masks[bits - 1] = upper;
  if constexpr (bits >= 2) {
    const __m512 quarter = _mm512_mask_blend_ps(upper, thresholds.quarters[0], thresholds.quarters[1]);
    masks[bits - 2] = _mm512_cmp_ps_mask(y, quarter, _CMP_GT_OQ);
  }
  if constexpr (bits >= 3) {
    const __m512 lower_eighth =
        _mm512_mask_blend_ps(masks[bits - 2], thresholds.eighths[0], thresholds.eighths[1]);
    const __m512 upper_eighth =
        _mm512_mask_blend_ps(masks[bits - 2], thresholds.eighths[2], thresholds.eighths[3]);
    const __m512 eighth = _mm512_mask_blend_ps(upper, lower_eighth, upper_eighth);
    masks[bits - 3] = _mm512_cmp_ps_mask(y, eighth, _CMP_GT_OQ);
  }
  if constexpr (bits >= 4) {
    // From here on by the place in the tree: 8 and the three bits found.
    __m512i place = _mm512_set1_epi32(8);
    place = _mm512_mask_or_epi32(place, masks[bits - 1], place, _mm512_set1_epi32(4));
    place = _mm512_mask_or_epi32(place, masks[bits - 2], place, _mm512_set1_epi32(2));
    place = _mm512_mask_or_epi32(place, masks[bits - 3], place, _mm512_set1_epi32(1));
    __m512 threshold = _mm512_permutexvar_ps(place, _mm512_loadu_ps(tree));
    for (int j = bits - 4;; --j) {
      masks[j] = _mm512_cmp_ps_mask(y, threshold, _CMP_GT_OQ);
      if (j == 0) break;
      place = _mm512_add_epi32(place, place);
      place = _mm512_mask_add_epi32(place, masks[j], place, _mm512_set1_epi32(1));
      if (j == bits - 4) {  // 16 entries of the level, one register
        threshold = _mm512_permutexvar_ps(place, _mm512_loadu_ps(tree + 16));
      } else {
        threshold = _mm512_i32gather_ps(place, tree, sizeof(float));
      }
    }
  }
}

// body(search), search(y, masks) for the codebook of the tables.
template <int bits, typename Body>
ROTORQUANT_AVX512_INLINE void with_search(const ScalarTables& tables, const Body& body) {
  if constexpr (bits >= least_plane_codebook_bits && bits <= most_plane_codebook_bits) {
    if (tables.registers) return body(SymmetricSearch<bits>(*tables.registers));
  }
  const Thresholds thresholds = load_thresholds(tables);
  const float* tree = tables.tree.data();
  body([&](__m512 y, __mmask16(&masks)[bits])
           ROTORQUANT_AVX512_LAMBDA { search<bits>(thresholds, tree, y, masks); });
}

}  // namespace rotorquant::avx512
