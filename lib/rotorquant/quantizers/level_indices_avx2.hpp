#pragma once
// The place of eight numbers among the levels of one width: down its tree of boundaries, or, where the levels
// are few, by the magnitude and the sign. Internal to lib/rotorquant/quantizers.
#include "rotorquant/core/avx2.hpp"
#include "rotorquant/quantizers/level_search.hpp"
#include "rotorquant/quantizers/register_tables_avx2.hpp"

namespace rotorquant::avx2 {

// Bits of the number of boundaries strictly below y: masks[j] is all ones in the lanes where bit j is 1.
template <int width>
class TreeSearch {
 public:
  ROTORQUANT_AVX2_INLINE explicit TreeSearch(const NormalLevels& levels) : tree_(levels.tree()) {}
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

// The search of a symmetric codebook: the sign, then the place among the positive boundaries by the magnitude.
// A magnitude's bits, where y is negative one more, compare as integers: so a tie goes to the lower cell on
// either side of 0.
template <int width>
class SymmetricSearch {
 public:
  ROTORQUANT_AVX2_INLINE explicit SymmetricSearch(const PlaneCodebook& codebook) {
    for (int i = 0; i < count; ++i)
      positive_[i] = _mm256_set1_ps(codebook.boundaries[static_cast<std::size_t>(i)]);
  }

  // Where y is positive, bits of the number of boundaries strictly below y; elsewhere all bits but the
  // highest are the opposite.
  ROTORQUANT_AVX2_INLINE void compare(__m256 y, __m256i (&masks)[width]) const {
    const __m256i word = _mm256_castps_si256(y);
    const __m256i magnitude =
        _mm256_and_si256(_mm256_sub_epi32(word, _mm256_srai_epi32(word, 31)), _mm256_set1_epi32(0x7FFFFFFF));
    const auto above = [&](__m256 boundary) ROTORQUANT_AVX2_LAMBDA {
      return _mm256_cmpgt_epi32(magnitude, _mm256_castps_si256(boundary));
    };
    const auto either = [](__m256i upper, __m256 low, __m256 high) ROTORQUANT_AVX2_LAMBDA {
      return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(upper));
    };
    const __m256i half = above(positive_[count / 2]);
    masks[width - 1] = _mm256_cmpgt_epi32(word, _mm256_setzero_si256());
    masks[width - 2] = half;
    if constexpr (width == 3) {
      masks[0] = above(either(half, positive_[0], positive_[2]));
    } else if constexpr (width == 4) {
      const __m256i upper = above(either(half, positive_[1], positive_[5]));
      masks[1] = upper;
      masks[0] = above(
          either(half, either(upper, positive_[0], positive_[2]), either(upper, positive_[4], positive_[6])));
    }
  }

 private:
  static constexpr int count = (1 << (width - 1)) - 1;
  __m256 positive_[count];
};

}  // namespace rotorquant::avx2
