// Vectors coordinate by coordinate to bit planes of their indices, eight at a time.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <cstring>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/avx2.hpp"
#include "rotorquant/core/dispatch.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

// The search of a symmetric codebook but for the sign: the place among the positive boundaries by the
// magnitude. Magnitudes compare as integers; below 0 by one more, so that a tie goes to the lower cell on
// either side of 0.
template <int bits>
class MagnitudeSearch {
 public:
  ROTORQUANT_AVX2_INLINE explicit MagnitudeSearch(const PlaneCodebook& codebook) {
    for (int i = 0; i < count; ++i)
      positive_[i] = _mm256_castps_si256(_mm256_set1_ps(codebook.boundaries[static_cast<std::size_t>(i)]));
  }

  // masks[j], all ones or zeros in each lane, is bit j of the number of boundaries strictly below y where y is
  // positive; else the opposite. For all bits but the highest.
  ROTORQUANT_AVX2_INLINE void operator()(__m256i y, __m256i* masks) const {
    const __m256i magnitude =
        _mm256_sub_epi32(_mm256_and_si256(y, _mm256_set1_epi32(0x7FFFFFFF)), _mm256_srai_epi32(y, 31));
    const __m256i half = _mm256_cmpgt_epi32(magnitude, positive_[count / 2]);
    masks[bits - 2] = half;
    if constexpr (bits == 3) {
      masks[0] = _mm256_cmpgt_epi32(magnitude, choose(half, positive_[0], positive_[2]));
    } else if constexpr (bits == 4) {
      const __m256i upper = _mm256_cmpgt_epi32(magnitude, choose(half, positive_[1], positive_[5]));
      masks[1] = upper;
      masks[0] = _mm256_cmpgt_epi32(magnitude, choose(half, choose(upper, positive_[0], positive_[2]),
                                                      choose(upper, positive_[4], positive_[6])));
    }
  }

 private:
  static constexpr int count = (1 << (bits - 1)) - 1;

  static ROTORQUANT_AVX2_INLINE __m256i choose(__m256i mask, __m256i clear, __m256i set) {
    return _mm256_castps_si256(
        _mm256_blendv_ps(_mm256_castsi256_ps(clear), _mm256_castsi256_ps(set), _mm256_castsi256_ps(mask)));
  }

  __m256i positive_[count];
};

constexpr std::int64_t word_coordinates = 32;

// words[j]: in lane v the bits of plane j of vector v and the coordinates [0, 8 bytes), others zeros. What is
// found for coordinates k, 8 + k, 16 + k and 24 + k becomes bytes of one register, bit k of the words' bytes.
// Conversions to fewer bits keep what is positive so, masks too: so signs are first looked at in bytes.
template <int bits, int bytes>
ROTORQUANT_AVX2_INLINE void find_words(const MagnitudeSearch<bits>& search, const float* columns,
                                       __m256i (&words)[bits]) {
  const __m256i zero = _mm256_setzero_si256();
  for (__m256i& word : words) word = zero;
  for (int k = 7; k >= 0; --k) {
    // The coordinates of bytes 2 i and 2 i + 1 in 16 bits.
    const auto pair = [&](int i, __m256i(&halves)[bits]) ROTORQUANT_AVX2_LAMBDA {
      __m256i found[2][bits];
#pragma GCC unroll 2
      for (int odd = 0; odd < 2; ++odd) {
        if (2 * i + odd >= bytes) {
          for (__m256i& nothing : found[odd]) nothing = zero;
          continue;
        }
        const float* column = columns + (8 * (2 * i + odd) + k) * column_lanes;
        found[odd][bits - 1] = _mm256_load_si256(reinterpret_cast<const __m256i*>(column));
        search(found[odd][bits - 1], found[odd]);
      }
#pragma GCC unroll 4
      for (int j = 0; j < bits; ++j) halves[j] = _mm256_packs_epi32(found[0][j], found[1][j]);
    };
    __m256i low[bits], high[bits];
    pair(0, low);
    pair(1, high);
#pragma GCC unroll 4
    for (int j = 0; j < bits; ++j) {
      const __m256i four = _mm256_packs_epi16(low[j], high[j]);
      const __m256i mask = j < bits - 1 ? four : _mm256_cmpgt_epi8(four, zero);
      words[j] = _mm256_sub_epi8(_mm256_add_epi8(words[j], words[j]), mask);
    }
  }
  // Each half of a register has byte i of its vector v at 4 i + v.
  const __m256i by_vector =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
#pragma GCC unroll 4
  for (int j = 0; j < bits - 1; ++j)
    words[j] = _mm256_xor_si256(_mm256_xor_si256(words[j], words[bits - 1]), _mm256_set1_epi8(-1));
#pragma GCC unroll 4
  for (__m256i& word : words) word = _mm256_shuffle_epi8(word, by_vector);
}

// Words of `bytes` bytes of up to eight vectors to their planes.
template <int bits, int bytes>
ROTORQUANT_AVX2_INLINE void store_words(const __m256i (&words)[bits], std::int64_t count, std::int64_t stride,
                                        std::uint8_t* planes) {
#pragma GCC unroll 4
  for (int j = 0; j < bits; ++j) {
    alignas(32) std::uint32_t own[lanes];
    _mm256_store_si256(reinterpret_cast<__m256i*>(own), words[j]);
    for (std::int64_t v = 0; v < count; ++v) std::memcpy(planes + (v * bits + j) * stride, own + v, bytes);
  }
}

// Coordinates of up to eight vectors, at most 32.
template <int bits>
ROTORQUANT_AVX2_INLINE void piece_to_planes(const MagnitudeSearch<bits>& search, const float* columns,
                                            std::int64_t coordinates, std::int64_t count, std::int64_t stride,
                                            std::uint8_t* planes) {
  const auto of_bytes = [&]<int bytes>() ROTORQUANT_AVX2_LAMBDA {
    __m256i words[bits];
    if (coordinates == 8 * bytes) {
      find_words<bits, bytes>(search, columns, words);
    } else {
      alignas(32) float padded[8 * bytes * column_lanes] = {};
      for (std::int64_t c = 0; c < coordinates; ++c)
        std::copy_n(columns + c * column_lanes, lanes, padded + c * column_lanes);
      find_words<bits, bytes>(search, padded, words);
      const __m256i valid = _mm256_set1_epi32(static_cast<int>((std::uint32_t{1} << coordinates) - 1));
      for (__m256i& word : words) word = _mm256_and_si256(word, valid);
    }
    store_words<bits, bytes>(words, count, stride, planes);
  };
  if (coordinates > 24) return of_bytes.template operator()<4>();
  if (coordinates > 16) return of_bytes.template operator()<3>();
  if (coordinates > 8) return of_bytes.template operator()<2>();
  of_bytes.template operator()<1>();
}

template <int bits>
ROTORQUANT_AVX2 void columns_to_planes(const float* columns, std::int64_t count, std::int64_t dim,
                                       const PlaneCodebook& codebook, std::uint8_t* planes) {
  const MagnitudeSearch<bits> search(codebook);
  const std::int64_t stride = plane_bytes(dim);
  for (std::int64_t first = 0; first < dim; first += word_coordinates) {
    for (std::int64_t v = 0; v < count; v += lanes) {
      piece_to_planes<bits>(search, columns + first * column_lanes + v,
                            std::min<std::int64_t>(word_coordinates, dim - first), std::min(lanes, count - v),
                            stride, planes + v * bits * stride + first / 8);
    }
  }
}

}  // namespace

void columns_to_planes_avx2(const float* columns, std::int64_t count, std::int64_t dim,
                            const PlaneCodebook& codebook, std::uint8_t* planes) {
  dispatch_bits(codebook.bits, [&](auto bits) {
    if constexpr (bits() >= least_plane_codebook_bits && bits() <= most_plane_codebook_bits)
      columns_to_planes<bits()>(columns, count, dim, codebook, planes);
  });
}

}  // namespace rotorquant
#endif
