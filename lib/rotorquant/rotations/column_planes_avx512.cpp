// Vectors coordinate by coordinate to bit planes of their indices, 16 at a time.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <cstring>

#include "rotorquant/rotations/row_ends_avx512.hpp"

namespace rotorquant {
namespace {

using avx512::lanes;

static_assert(lanes == column_lanes);

ROTORQUANT_AVX512_INLINE __m512i equal_bits(__m512i a, __m512i b) {
  constexpr int neither_or_both = 0xC3;
  return _mm512_ternarylogic_epi32(a, b, b, neither_or_both);
}

// The lowest `bytes` <= 8 bytes, by whole words.
ROTORQUANT_AVX512_INLINE void store_bytes(std::uint8_t* place, std::uint64_t word, std::int64_t bytes) {
  if (bytes == 8) {
    std::memcpy(place, &word, 8);
    return;
  }
  if ((bytes & 4) != 0) {
    std::memcpy(place, &word, 4);
    place += 4;
    word >>= 32;
  }
  if ((bytes & 2) != 0) {
    std::memcpy(place, &word, 2);
    place += 2;
    word >>= 16;
  }
  if ((bytes & 1) != 0) *place = static_cast<std::uint8_t>(word);
}

// Bit planes of up to 16 vectors from their columns, of at most 32 `registers` coordinates. A
// comparison's mask holds a bit of one coordinate of each vector: the masks of all coordinates are bytes of
// vectors 0 to 7 and of vectors 8 to 15, and a test of bit v of all bytes is the bits of vector v's plane.
template <int bits, int registers>
ROTORQUANT_AVX512_INLINE void piece_to_planes(const avx512::SymmetricSearch<bits>& search,
                                              const float* columns, std::int64_t coordinates,
                                              std::int64_t count, std::int64_t stride, std::uint8_t* planes) {
  constexpr int most = 32 * registers;
  alignas(64) std::uint16_t words[bits][most];
  for (std::int64_t c = coordinates; c < most; ++c) {
    for (int j = 0; j < bits; ++j) words[j][c] = j < bits - 1 ? 0xFFFF : 0;  // 0 once compared with the sign
  }
#pragma GCC unroll 4
  for (std::int64_t c = 0; c < coordinates; ++c) {
    __mmask16 masks[bits];
    search.compare(_mm512_load_ps(columns + c * column_lanes), masks);
    for (int j = 0; j < bits; ++j) words[j][c] = masks[j];
  }
  const std::int64_t bytes = plane_bytes(coordinates);
  for (int j = 0; j < bits; ++j) {
    __m256i low[registers], high[registers];
    for (int i = 0; i < registers; ++i) {
      __m512i masks = _mm512_load_si512(words[j] + 32 * i);
      if (j < bits - 1) masks = equal_bits(masks, _mm512_load_si512(words[bits - 1] + 32 * i));
      low[i] = _mm512_cvtepi16_epi8(masks);
      high[i] = _mm512_cvtepi16_epi8(_mm512_srli_epi16(masks, 8));
    }
    const __m512i low_bytes = _mm512_inserti64x4(_mm512_castsi256_si512(low[0]), low[registers - 1], 1);
    const __m512i high_bytes = _mm512_inserti64x4(_mm512_castsi256_si512(high[0]), high[registers - 1], 1);
    const auto store = [&](std::int64_t v) ROTORQUANT_AVX512_LAMBDA {
      const __m512i bit = _mm512_set1_epi8(static_cast<char>(1 << v % 8));
      std::uint64_t word = 0;
      if constexpr (registers == 1) {
        word = _mm256_test_epi8_mask(v < 8 ? low[0] : high[0], _mm512_castsi512_si256(bit));
      } else {
        word = _mm512_test_epi8_mask(v < 8 ? low_bytes : high_bytes, bit);
      }
      store_bytes(planes + v * bits * stride + j * stride, word, bytes);
    };
    if (count == lanes) {
#pragma GCC unroll 16
      for (int v = 0; v < 16; ++v) store(v);
    } else {
      for (std::int64_t v = 0; v < count; ++v) store(v);
    }
  }
}

// The same of the last 16 coordinates or fewer: what all planes have of a vector are the bits of one test.
template <int bits>
ROTORQUANT_AVX512_INLINE void rest_to_planes(const avx512::SymmetricSearch<bits>& search,
                                             const float* columns, std::int64_t coordinates,
                                             std::int64_t count, std::int64_t stride, std::uint8_t* planes) {
  static_assert(bits <= 4);
  alignas(64) std::uint16_t words[4][16] = {};
  for (std::int64_t c = 0; c < coordinates; ++c) {
    __mmask16 masks[bits];
    search(_mm512_load_ps(columns + c * column_lanes), masks);
    for (int j = 0; j < bits; ++j) words[j][c] = masks[j];
  }
  // Byte 16 j + c: the bits of plane j and coordinate c of vectors 0 to 7, or of vectors 8 to 15.
  const __m512i first = _mm512_load_si512(words[0]), second = _mm512_load_si512(words[2]);
  const auto bytes_of = [&](__m512i a, __m512i b) ROTORQUANT_AVX512_LAMBDA {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)), _mm512_cvtepi16_epi8(b), 1);
  };
  const __m512i low = bytes_of(first, second);
  const __m512i high = bytes_of(_mm512_srli_epi16(first, 8), _mm512_srli_epi16(second, 8));
  for (std::int64_t v = 0; v < count; ++v) {
    const __m512i bit = _mm512_set1_epi8(static_cast<char>(1 << v % 8));
    const std::uint64_t found = _mm512_test_epi8_mask(v < 8 ? low : high, bit);
    for (int j = 0; j < bits; ++j) {
      std::uint8_t* place = planes + v * bits * stride + j * stride;
      const auto own = static_cast<std::uint16_t>(found >> (16 * j));
      if (coordinates > 8) {
        std::memcpy(place, &own, sizeof own);
      } else {
        *place = static_cast<std::uint8_t>(own);
      }
    }
  }
}

template <int bits>
ROTORQUANT_AVX512 void columns_to_planes(const float* columns, std::int64_t count, std::int64_t dim,
                                         const PlaneCodebook& codebook, std::uint8_t* planes) {
  const avx512::SymmetricSearch<bits> search(codebook);
  const std::int64_t stride = plane_bytes(dim);
  const auto piece = [&]<int registers>(std::int64_t first, std::int64_t coordinates)
                         ROTORQUANT_AVX512_LAMBDA {
                           piece_to_planes<bits, registers>(search, columns + first * column_lanes,
                                                            coordinates, count, stride, planes + first / 8);
                         };
  const std::int64_t whole = dim / 64 * 64;
  for (std::int64_t first = 0; first < whole; first += 64) piece.template operator()<2>(first, 64);
  const std::int64_t left = dim - whole;
  if (left > 32) return piece.template operator()<2>(whole, left);
  if (left > lanes) return piece.template operator()<1>(whole, left);
  if (left > 0)
    rest_to_planes<bits>(search, columns + whole * column_lanes, left, count, stride, planes + whole / 8);
}

}  // namespace

void columns_to_planes_avx512(const float* columns, std::int64_t count, std::int64_t dim,
                              const PlaneCodebook& codebook, std::uint8_t* planes) {
  avx512::with_plane_bits(
      codebook, [&](auto bits) { columns_to_planes<bits()>(columns, count, dim, codebook, planes); });
}

}  // namespace rotorquant
#endif
