#pragma once
// The search of a codebook of up to 4 bits in AVX2 registers. Include only where __x86_64__ is defined.
#include <array>

#include "rotorquant/codes/plane_codebook.hpp"
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

// Number of boundaries strictly below each of eight coordinates, one comparison a level. The place among a
// level's boundaries, minus the bits found so far as a number, picks the next one from a table.
template <int bits>
class ScalarSearch {
  static_assert(bits >= 1 && bits <= most_plane_codebook_bits);

 public:
  ROTORQUANT_AVX2_INLINE explicit ScalarSearch(const SearchTree& tree) : ScalarSearch(tree.data()) {}
  // tree [16].
  ROTORQUANT_AVX2_INLINE explicit ScalarSearch(const float* tree) {
    middle_ = _mm256_set1_ps(tree[1]);
    if constexpr (bits >= 2) {
      lower_ = _mm256_set1_ps(tree[2]);
      upper_ = _mm256_set1_ps(tree[3]);
    }
    // Entry -i modulo the level's size is its i-th boundary.
    if constexpr (bits >= 3)
      eighths_ = _mm256_setr_ps(tree[4], tree[7], tree[6], tree[5], tree[4], tree[7], tree[6], tree[5]);
    if constexpr (bits >= 4)
      sixteenths_ =
          _mm256_setr_ps(tree[8], tree[15], tree[14], tree[13], tree[12], tree[11], tree[10], tree[9]);
  }

  // All bits of lane c of masks[j] are bit j of the number of coordinate c.
  ROTORQUANT_AVX2_INLINE void operator()(__m256 y, __m256 (&masks)[bits]) const {
    masks[bits - 1] = above(y, middle_);
    if constexpr (bits >= 2) masks[bits - 2] = above(y, _mm256_blendv_ps(lower_, upper_, masks[bits - 1]));
    if constexpr (bits >= 3) {
      __m256i place = twice_and(_mm256_castps_si256(masks[bits - 1]), masks[bits - 2]);
      masks[bits - 3] = above(y, _mm256_permutevar_ps(eighths_, place));
      if constexpr (bits >= 4) {
        place = twice_and(place, masks[bits - 3]);
        masks[bits - 4] = above(y, _mm256_permutevar8x32_ps(sixteenths_, place));
      }
    }
  }

 private:
  static ROTORQUANT_AVX2_INLINE __m256 above(__m256 y, __m256 boundary) {
    return _mm256_cmp_ps(y, boundary, _CMP_GT_OQ);
  }
  static ROTORQUANT_AVX2_INLINE __m256i twice_and(__m256i place, __m256 mask) {
    return _mm256_add_epi32(_mm256_add_epi32(place, place), _mm256_castps_si256(mask));
  }

  __m256 middle_, lower_, upper_, eighths_, sixteenths_;
};

}  // namespace rotorquant::avx2
