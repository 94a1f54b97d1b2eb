#pragma once
// The search of a codebook by its tree of boundaries, in AVX2 registers up to 4 bits. Include only where
// __x86_64__ is defined.
#include <array>

#include "rotorquant/codes/plane_codebook.hpp"
#include "rotorquant/codes/register_tables_avx2.hpp"
#include "rotorquant/core/avx2.hpp"

namespace rotorquant::avx2 {

// The boundaries as a binary search meets them: level l holds entries [2^l, 2^(l + 1)).
using SearchTree = std::array<float, 16>;

template <int bits>
SearchTree search_tree(const PlaneCodebook& codebook) {
  constexpr int middle = (1 << (bits - 1)) - 1;
  SearchTree tree{};
  for (int level = 0; level < bits; ++level) {
    for (int i = 0; i < 1 << level; ++i) {
      const int place = (2 * i + 1) * (1 << (bits - 1 - level)) - 1 - middle;
      const float boundary =
          place == 0 ? 0.0F : codebook.boundaries[static_cast<std::size_t>((place < 0 ? -place : place) - 1)];
      tree[static_cast<std::size_t>((1 << level) + i)] = place < 0 ? -boundary : boundary;
    }
  }
  return tree;
}

// The number of boundaries strictly below each of eight coordinates, one comparison a level. Up to four
// levels are in registers, where the place among a level's boundaries, minus the bits found so far as a
// number, picks the next boundary; beyond them it is found by that number in a table.
template <int width>
class TreeSearch {
 public:
  // tree [max(16, 2^width)].
  ROTORQUANT_AVX2_INLINE explicit TreeSearch(const float* tree)
      : tree_(width > in_registers ? tree : nullptr) {
    middle_ = _mm256_set1_ps(tree[1]);
    if constexpr (width >= 2) {
      lower_ = _mm256_set1_ps(tree[2]);
      upper_ = _mm256_set1_ps(tree[3]);
    }
    // Entry -i modulo the level's size is its i-th boundary.
    if constexpr (width >= 3)
      eighths_ = _mm256_setr_ps(tree[4], tree[7], tree[6], tree[5], tree[4], tree[7], tree[6], tree[5]);
    if constexpr (width >= 4)
      sixteenths_ =
          _mm256_setr_ps(tree[8], tree[15], tree[14], tree[13], tree[12], tree[11], tree[10], tree[9]);
  }

  // All bits of lane c of masks[j] are bit j of the number of coordinate c.
  ROTORQUANT_AVX2_INLINE void operator()(__m256 y, __m256 (&masks)[width]) const { minus_number(y, masks); }
  ROTORQUANT_AVX2_INLINE __m256i index(__m256 y) const {
    __m256 masks[width];
    return _mm256_sub_epi32(_mm256_setzero_si256(), minus_number(y, masks));
  }

 private:
  static constexpr int in_registers = 4;  // levels

  static ROTORQUANT_AVX2_INLINE __m256 above(__m256 y, __m256 boundary) {
    return _mm256_cmp_ps(y, boundary, _CMP_GT_OQ);
  }
  static ROTORQUANT_AVX2_INLINE __m256i twice_and(__m256i place, __m256 mask) {
    return _mm256_add_epi32(_mm256_add_epi32(place, place), _mm256_castps_si256(mask));
  }

  ROTORQUANT_AVX2_INLINE __m256i minus_number(__m256 y, __m256 (&masks)[width]) const {
    masks[width - 1] = above(y, middle_);
    __m256i place = _mm256_castps_si256(masks[width - 1]);
    if constexpr (width >= 2) {
      masks[width - 2] = above(y, _mm256_blendv_ps(lower_, upper_, masks[width - 1]));
      place = twice_and(place, masks[width - 2]);
    }
    if constexpr (width >= 3) {
      masks[width - 3] = above(y, _mm256_permutevar_ps(eighths_, place));
      place = twice_and(place, masks[width - 3]);
    }
    if constexpr (width >= 4) {
      masks[width - 4] = above(y, _mm256_permutevar8x32_ps(sixteenths_, place));
      place = twice_and(place, masks[width - 4]);
    }
    if constexpr (width > in_registers) descend<in_registers>(y, place, masks);
    return place;
  }

  // From the place among the 2^level parts that the boundaries before leave.
  template <int level>
  ROTORQUANT_AVX2_INLINE void descend(__m256 y, __m256i& place, __m256 (&masks)[width]) const {
    const RegisterTable<level> boundaries(tree_ + (1 << level));
    const __m256i number = _mm256_sub_epi32(_mm256_setzero_si256(), place);
    masks[width - 1 - level] = above(y, boundaries(number));
    place = twice_and(place, masks[width - 1 - level]);
    if constexpr (level + 1 < width) descend<level + 1>(y, place, masks);
  }

  const float* tree_;
  __m256 middle_, lower_, upper_, eighths_, sixteenths_;
};

}  // namespace rotorquant::avx2
