// Vectors coordinate by coordinate to bit planes of their indices, and back, eight at a time.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/avx2.hpp"

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

  // masks[j], all ones or zeros in each lane, is bit j of the number of boundaries strictly below y where y
  // is positive; else the opposite. For all bits but the highest.
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

// Byte i of each half's 32-bit lane v becomes byte v of lane i.
ROTORQUANT_AVX2_INLINE __m256i exchange_bytes(__m256i words) {
  const __m128i places = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(places));
}

// words[j]: in lane v the bits of plane j of vector v and the coordinates [0, coordinates), in (8 bytes - 8,
// 8 bytes]; other bits of these bytes are those of the last coordinate, other bytes zeros. What is found for
// coordinates k, 8 + k, 16 + k and 24 + k becomes bytes of one register, bit k of the words' bytes.
// Conversions to fewer bits keep what is positive so, masks too: so signs are first looked at in bytes.
template <int bits, int bytes>
ROTORQUANT_AVX2_INLINE void find_words(const MagnitudeSearch<bits>& search, const float* columns,
                                       std::int64_t coordinates, __m256i (&words)[bits]) {
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
        const std::int64_t c = std::min<std::int64_t>(8 * (2 * i + odd) + k, coordinates - 1);
        const float* column = columns + c * column_lanes;
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
#pragma GCC unroll 4
  for (int j = 0; j < bits - 1; ++j)
    words[j] = _mm256_xor_si256(_mm256_xor_si256(words[j], words[bits - 1]), _mm256_set1_epi8(-1));
#pragma GCC unroll 4
  for (__m256i& word : words) word = exchange_bytes(word);
}

// body<bytes>() for up to 32 coordinates.
template <typename Body>
ROTORQUANT_AVX2_INLINE void with_bytes(std::int64_t coordinates, const Body& body) {
  if (coordinates > 24) return body.template operator()<4>();
  if (coordinates > 16) return body.template operator()<3>();
  if (coordinates > 8) return body.template operator()<2>();
  body.template operator()<1>();
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

// Two words one after the other of each of eight vectors.
template <int bits>
ROTORQUANT_AVX2_INLINE void store_pairs(const __m256i (&first)[bits], const __m256i (&second)[bits],
                                        std::int64_t stride, std::uint8_t* planes) {
#pragma GCC unroll 4
  for (int j = 0; j < bits; ++j) {
    const auto store = [&](int v, __m128i two) ROTORQUANT_AVX2_LAMBDA {
      std::uint8_t* place = planes + (v * bits + j) * stride;
      _mm_storel_epi64(reinterpret_cast<__m128i*>(place), two);
      _mm_storeu_si64(place + bits * stride, _mm_unpackhi_epi64(two, two));
    };
    const __m256i low = _mm256_unpacklo_epi32(first[j], second[j]);
    const __m256i high = _mm256_unpackhi_epi32(first[j], second[j]);
    store(0, _mm256_castsi256_si128(low));
    store(2, _mm256_castsi256_si128(high));
    store(4, _mm256_extracti128_si256(low, 1));
    store(6, _mm256_extracti128_si256(high, 1));
  }
}

// Up to eight vectors.
template <int bits>
ROTORQUANT_AVX2_INLINE void eight_to_planes(const MagnitudeSearch<bits>& search, const float* columns,
                                            std::int64_t count, std::int64_t dim, std::uint8_t* planes) {
  const std::int64_t stride = plane_bytes(dim);
  std::int64_t c = 0;
  for (; c + 2 * word_coordinates <= dim && count == lanes; c += 2 * word_coordinates) {
    __m256i first[bits], second[bits];
    find_words<bits, 4>(search, columns + c * column_lanes, word_coordinates, first);
    find_words<bits, 4>(search, columns + (c + word_coordinates) * column_lanes, word_coordinates, second);
    store_pairs(first, second, stride, planes + c / 8);
  }
  for (; c < dim; c += word_coordinates) {
    const std::int64_t coordinates = std::min(word_coordinates, dim - c);
    with_bytes(coordinates, [&]<int bytes>() ROTORQUANT_AVX2_LAMBDA {
      __m256i words[bits];
      find_words<bits, bytes>(search, columns + c * column_lanes, coordinates, words);
      const __m256i valid = _mm256_set1_epi32(static_cast<int>(~std::uint32_t{0} >> (32 - coordinates)));
      for (__m256i& word : words) word = _mm256_and_si256(word, valid);
      store_words<bits, bytes>(words, count, stride, planes + c / 8);
    });
  }
}

template <int bits>
ROTORQUANT_AVX2 void columns_to_planes(const float* columns, std::int64_t count, std::int64_t dim,
                                       const PlaneCodebook& codebook, std::uint8_t* planes) {
  const MagnitudeSearch<bits> search(codebook);
  for (std::int64_t v = 0; v < count; v += lanes)
    eight_to_planes<bits>(search, columns + v, std::min(lanes, count - v), dim,
                          planes + v * bits * plane_bytes(dim));
}

// The bytes of a codebook's centroids: byte b of centroid c is byte c of either half of table b.
class CentroidBytes {
 public:
  ROTORQUANT_AVX2_INLINE explicit CentroidBytes(const PlaneCodebook& codebook) {
    alignas(16) std::uint8_t bytes[4][16];
    for (std::size_t c = 0; c < 16; ++c) {
      std::uint8_t own[4];
      std::memcpy(own, &codebook.centroids[c], 4);
      for (int b = 0; b < 4; ++b) bytes[b][c] = own[b];
    }
    for (int b = 0; b < 4; ++b)
      tables_[b] = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes[b])));
  }

  // centroids[i]: those of bytes i of the 32-bit lanes' indices after exchange_bytes(), in their order.
  ROTORQUANT_AVX2_INLINE void look_up(__m256i indices, __m256 (&centroids)[4]) const {
    __m256i bytes[4];
    for (int b = 0; b < 4; ++b) bytes[b] = _mm256_shuffle_epi8(tables_[b], indices);
    const __m256i low[2] = {_mm256_unpacklo_epi8(bytes[0], bytes[1]),
                            _mm256_unpackhi_epi8(bytes[0], bytes[1])};
    const __m256i high[2] = {_mm256_unpacklo_epi8(bytes[2], bytes[3]),
                             _mm256_unpackhi_epi8(bytes[2], bytes[3])};
    for (int i = 0; i < 2; ++i) {
      centroids[2 * i] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(low[i], high[i]));
      centroids[2 * i + 1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(low[i], high[i]));
    }
  }

 private:
  __m256i tables_[4];
};

// (a & mask) | (b & mask) << shift and (a >> shift & mask) | (b & mask << shift) of all bytes: fields of
// `shift` bits of a and b side by side, those at even places, then those at odd ones.
template <int shift, int mask>
ROTORQUANT_AVX2_INLINE void interleave_fields(__m256i a, __m256i b, __m256i& even, __m256i& odd) {
  const __m256i lower = _mm256_set1_epi8(static_cast<char>(mask));
  const __m256i upper = _mm256_set1_epi8(static_cast<char>(mask << shift));
  even = _mm256_or_si256(_mm256_and_si256(a, lower), _mm256_slli_epi16(_mm256_and_si256(b, lower), shift));
  odd = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(a, shift), lower), _mm256_and_si256(b, upper));
}

// The inverse of find_words(): centroids of coordinates [0, coordinates), in (8 bytes - 8, 8 bytes].
template <int bits, int bytes>
ROTORQUANT_AVX2_INLINE void place_centroids(const CentroidBytes& table, const __m256i (&words)[bits],
                                            std::int64_t coordinates, float* columns) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i planes[4] = {zero, zero, zero, zero};
#pragma GCC unroll 4
  for (int j = 0; j < bits; ++j) planes[j] = exchange_bytes(words[j]);
  // Two bits of coordinates 2 i + odd, then all bits of k and k + 4.
  __m256i low[2], high[2], nibbles[4];
  interleave_fields<1, 0x55>(planes[0], planes[1], low[0], low[1]);
  interleave_fields<1, 0x55>(planes[2], planes[3], high[0], high[1]);
  interleave_fields<2, 0x33>(low[0], high[0], nibbles[0], nibbles[2]);
  interleave_fields<2, 0x33>(low[1], high[1], nibbles[1], nibbles[3]);
  const __m256i nibble = _mm256_set1_epi8(0xF);
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) {
    const __m256i indices = k < 4 ? nibbles[k] : _mm256_srli_epi16(nibbles[k - 4], 4);
    __m256 centroids[4];
    table.look_up(_mm256_and_si256(indices, nibble), centroids);
#pragma GCC unroll 4
    for (int i = 0; i < bytes; ++i) {
      if (i < bytes - 1 || 8 * i + k < coordinates)
        _mm256_store_ps(columns + (8 * i + k) * column_lanes, centroids[i]);
    }
  }
}

// The words of `bytes` bytes from byte `first` on of vectors whose planes begin at `planes`. Where planes
// have bytes before them, those are loaded too and shifted out, so that all loads are of four bytes.
template <int bits, int bytes>
ROTORQUANT_AVX2_INLINE void load_words(const std::uint8_t* const (&planes)[lanes], std::int64_t first,
                                       std::int64_t stride, __m256i (&words)[bits]) {
  constexpr int others = 4 - bytes;
#pragma GCC unroll 4
  for (int j = 0; j < bits; ++j) {
    int own[lanes] = {};
    const auto load = [&]<int size>(std::int64_t place) ROTORQUANT_AVX2_LAMBDA {
#pragma GCC unroll 8
      for (int v = 0; v < lanes; ++v) std::memcpy(own + v, planes[v] + j * stride + place, size);
      return _mm256_setr_epi32(own[0], own[1], own[2], own[3], own[4], own[5], own[6], own[7]);
    };
    words[j] = first >= others ? _mm256_srli_epi32(load.template operator()<4>(first - others), 8 * others)
                               : load.template operator()<bytes>(first);
  }
}

// The inverse of store_pairs().
template <int bits>
ROTORQUANT_AVX2_INLINE void load_pairs(const std::uint8_t* planes, std::int64_t stride,
                                       __m256i (&first)[bits], __m256i (&second)[bits]) {
#pragma GCC unroll 4
  for (int j = 0; j < bits; ++j) {
    const auto load = [&](int v) ROTORQUANT_AVX2_LAMBDA {
      const std::uint8_t* place = planes + (v * bits + j) * stride;
      const __m128i one = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(place));
      const __m128i two = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(place + bits * stride));
      return _mm_castsi128_ps(_mm_unpacklo_epi64(one, two));
    };
    const __m256 low = _mm256_set_m128(load(4), load(0));
    const __m256 high = _mm256_set_m128(load(6), load(2));
    first[j] = _mm256_castps_si256(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
    second[j] = _mm256_castps_si256(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
  }
}

// Eight vectors, or as many as there are and copies of the last one.
template <int bits>
ROTORQUANT_AVX2_INLINE void eight_from_planes(const CentroidBytes& table, const std::uint8_t* planes,
                                              std::int64_t count, std::int64_t dim, float* columns) {
  const std::int64_t stride = plane_bytes(dim);
  const std::uint8_t* own[lanes];
  for (std::int64_t v = 0; v < lanes; ++v) own[v] = planes + std::min(v, count - 1) * bits * stride;
  std::int64_t c = 0;
  for (; c + 2 * word_coordinates <= dim && count >= lanes; c += 2 * word_coordinates) {
    __m256i first[bits], second[bits];
    load_pairs(planes + c / 8, stride, first, second);
    place_centroids<bits, 4>(table, first, word_coordinates, columns + c * column_lanes);
    place_centroids<bits, 4>(table, second, word_coordinates,
                             columns + (c + word_coordinates) * column_lanes);
  }
  for (; c < dim; c += word_coordinates) {
    const std::int64_t coordinates = std::min(word_coordinates, dim - c);
    with_bytes(coordinates, [&]<int bytes>() ROTORQUANT_AVX2_LAMBDA {
      __m256i words[bits];
      load_words<bits, bytes>(own, c / 8, stride, words);
      place_centroids<bits, bytes>(table, words, coordinates, columns + c * column_lanes);
    });
  }
}

template <int bits>
ROTORQUANT_AVX2 void planes_to_columns(const std::uint8_t* planes, std::int64_t count, std::int64_t dim,
                                       const PlaneCodebook& codebook, float* columns) {
  const CentroidBytes table(codebook);
  for (std::int64_t v = 0; v < column_lanes; v += lanes) {
    const std::int64_t first = std::min(v, count - 1);
    eight_from_planes<bits>(table, planes + first * bits * plane_bytes(dim), count - first, dim, columns + v);
  }
}

// body(std::integral_constant<int, bits>{}) for a codebook in registers.
template <typename Body>
void with_plane_bits(const PlaneCodebook& codebook, const Body& body) {
  if (codebook.bits == 2) return body(std::integral_constant<int, 2>{});
  if (codebook.bits == 3) return body(std::integral_constant<int, 3>{});
  body(std::integral_constant<int, 4>{});
}

}  // namespace

void columns_to_planes_avx2(const float* columns, std::int64_t count, std::int64_t dim,
                            const PlaneCodebook& codebook, std::uint8_t* planes) {
  with_plane_bits(codebook,
                  [&](auto bits) { columns_to_planes<bits()>(columns, count, dim, codebook, planes); });
}

void planes_to_columns_avx2(const std::uint8_t* planes, std::int64_t count, std::int64_t dim,
                            const PlaneCodebook& codebook, float* columns) {
  with_plane_bits(codebook,
                  [&](auto bits) { planes_to_columns<bits()>(planes, count, dim, codebook, columns); });
}

}  // namespace rotorquant
#endif
