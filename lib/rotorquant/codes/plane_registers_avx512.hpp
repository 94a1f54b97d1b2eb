#pragma once
// Sixteen coordinates in an AVX-512 register to and from bit planes: mask j is bit j of their indices.
#include <cstring>

#include "rotorquant/codes/plane_codebook.hpp"
#include "rotorquant/core/avx512.hpp"

namespace rotorquant::avx512 {

// The search of a symmetric codebook: the sign, then the place among the positive boundaries by the
// magnitude. A magnitude's bits with the sign as their last bit compare as integers, where y is negative,
// like a magnitude just above its own: so a tie goes to the lower cell on either side of 0.
template <int bits>
class SymmetricSearch {
 public:
  ROTORQUANT_AVX512_INLINE explicit SymmetricSearch(const PlaneCodebook& codebook) {
    for (int i = 0; i < count; ++i) {
      const __m512 boundary = _mm512_set1_ps(codebook.boundaries[static_cast<std::size_t>(i)]);
      positive_[i] = _mm512_slli_epi32(_mm512_castps_si512(boundary), 1);
    }
  }

  // Bits of the number of boundaries strictly below y.
  ROTORQUANT_AVX512_INLINE void operator()(__m512 y, __mmask16 (&masks)[bits]) const {
    compare(y, masks);
    for (int j = 0; j < bits - 1; ++j) masks[j] = _kxnor_mask16(masks[bits - 1], masks[j]);
  }

  // The same where y is positive; below 0 all bits but the highest are the opposite.
  ROTORQUANT_AVX512_INLINE void compare(__m512 y, __mmask16 (&masks)[bits]) const {
    const __m512i magnitude = _mm512_rol_epi32(_mm512_castps_si512(y), 1);
    const __mmask16 half = _mm512_cmpgt_epu32_mask(magnitude, positive_[count / 2]);
    masks[bits - 1] = _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GT_OQ);
    masks[bits - 2] = half;
    if constexpr (bits == 3) {
      const __m512i quarter = _mm512_mask_blend_epi32(half, positive_[0], positive_[2]);
      masks[0] = _mm512_cmpgt_epu32_mask(magnitude, quarter);
    } else if constexpr (bits == 4) {
      const __m512i quarter = _mm512_mask_blend_epi32(half, positive_[1], positive_[5]);
      const __mmask16 upper = _mm512_cmpgt_epu32_mask(magnitude, quarter);
      const __m512i eighth =
          _mm512_mask_blend_epi32(half, _mm512_mask_blend_epi32(upper, positive_[0], positive_[2]),
                                  _mm512_mask_blend_epi32(upper, positive_[4], positive_[6]));
      masks[1] = upper;
      masks[0] = _mm512_cmpgt_epu32_mask(magnitude, eighth);
    }
  }

 private:
  static constexpr int count = (1 << (bits - 1)) - 1;
  __m512i positive_[count];
};

// Centroids of the indices; table [2^bits], or [16] where that is more, whose first 16 are `low`.
template <int bits>
ROTORQUANT_AVX512_INLINE __m512 centroids_of(const __mmask16 (&masks)[bits], const float* table, __m512 low) {
  __m512i index = _mm512_maskz_set1_epi32(masks[0], 1);
  for (int j = 1; j < bits; ++j)
    index = _mm512_mask_or_epi32(index, masks[j], index, _mm512_set1_epi32(1 << j));
  if constexpr (bits <= 4) return _mm512_permutexvar_ps(index, low);
  if constexpr (bits == 5) return _mm512_permutex2var_ps(low, index, _mm512_loadu_ps(table + 16));
  return _mm512_i32gather_ps(index, table, sizeof(float));
}

// The indices of 64 coordinates in bytes, from the eight bytes of each plane at `row`.
template <int bits>
ROTORQUANT_AVX512_INLINE __m512i index_bytes(const std::uint8_t* row, std::int64_t stride) {
  std::uint64_t plane = 0;
  std::memcpy(&plane, row, sizeof plane);
  __m512i index = _mm512_maskz_set1_epi8(plane, 1);
  for (int j = 1; j < bits; ++j) {
    std::memcpy(&plane, row + j * stride, sizeof plane);
    index = _mm512_mask_add_epi8(index, plane, index, _mm512_set1_epi8(static_cast<char>(1 << j)));
  }
  return index;
}

// Centroids of 16 of them; up to 4 bits.
template <int quarter>
ROTORQUANT_AVX512_INLINE __m512 centroids_of_quarter(__m512i index, __m512 low) {
  return _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(index, quarter)), low);
}
inline constexpr int most_byte_bits = 4;

// The masks of the coordinates [16 chunk, 16 chunk + 16) of a vector at its planes of `stride` bytes. A
// last chunk of up to 8 coordinates has one byte in each plane.
template <int bits>
ROTORQUANT_AVX512_INLINE void load_masks(const std::uint8_t* planes, std::int64_t stride, std::int64_t chunk,
                                         __mmask16 (&masks)[bits]) {
  const bool two_bytes = stride - 2 * chunk >= 2;
  for (int j = 0; j < bits; ++j) {
    const std::uint8_t* place = planes + j * stride + 2 * chunk;
    if (two_bytes) {
      std::memcpy(&masks[j], place, 2);
    } else {
      masks[j] = *place;
    }
  }
}

template <int bits>
ROTORQUANT_AVX512_INLINE void store_masks(const __mmask16 (&masks)[bits], std::uint8_t* planes,
                                          std::int64_t stride, std::int64_t chunk) {
  const bool two_bytes = stride - 2 * chunk >= 2;
  for (int j = 0; j < bits; ++j) {
    std::uint8_t* place = planes + j * stride + 2 * chunk;
    if (two_bytes) {
      std::memcpy(place, &masks[j], 2);
    } else {
      *place = static_cast<std::uint8_t>(masks[j]);
    }
  }
}

}  // namespace rotorquant::avx512
