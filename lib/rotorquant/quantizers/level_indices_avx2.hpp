#pragma once
// The indices of eight numbers among the levels of one width, by its tree of boundaries. Internal to
// lib/rotorquant/quantizers.
#include "rotorquant/core/avx2.hpp"
#include "rotorquant/quantizers/level_search.hpp"
#include "rotorquant/quantizers/register_tables_avx2.hpp"

namespace rotorquant::avx2 {

// The number of boundaries strictly below y.
template <int width>
class TreeSearch {
 public:
  ROTORQUANT_AVX2_INLINE explicit TreeSearch(const NormalLevels& levels) : tree_(levels.tree()) {}
  // Its bits: masks[j] is all ones in the lanes where bit j is 1.
  ROTORQUANT_AVX2_INLINE void operator()(__m256 y, __m256i (&masks)[width]) const {
    __m256i place = _mm256_setzero_si256();
    descend<0>(y, place, masks);
  }
  ROTORQUANT_AVX2_INLINE __m256i index(__m256 y) const {
    __m256i masks[width];
    __m256i place = _mm256_setzero_si256();
    descend<0>(y, place, masks);
    return place;
  }

 private:
  // From the place among the 2^step parts that the boundaries before leave.
  template <int step>
  ROTORQUANT_AVX2_INLINE void descend(__m256 y, __m256i& place, __m256i (&masks)[width]) const {
    const RegisterTable<step> boundaries(tree_ + (1 << step));
    const __m256i above = _mm256_castps_si256(_mm256_cmp_ps(y, boundaries(place), _CMP_GT_OQ));
    masks[width - 1 - step] = above;
    place = _mm256_sub_epi32(_mm256_add_epi32(place, place), above);
    if constexpr (step + 1 < width) descend<step + 1>(y, place, masks);
  }

  const float* tree_;
};

}  // namespace rotorquant::avx2
