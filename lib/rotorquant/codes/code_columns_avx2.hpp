#pragma once
// Codes of eight vectors with the same coordinates in the same place of every lane, so that one instruction
// works on them all, and the symbols of their bit planes. Internal to lib/rotorquant.
#include <cstdint>
#include <cstring>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/avx2.hpp"

namespace rotorquant::avx2 {

// Words of bit planes, eight vectors side by side: word(plane, block) holds bits [32 block, 32 block + 32) of
// a plane, and whatever follows in memory beyond the last coordinate.
template <int bits>
class PlaneColumns {
 public:
  explicit PlaneColumns(std::int64_t dim)
      : plane_bytes_(plane_bytes(dim)), words_((plane_bytes_ + 3) / 4), whole_(plane_bytes_ % 4 == 0) {}

  std::int64_t blocks() const { return words_; }
  std::int64_t code_bytes() const { return bits * plane_bytes_; }
  // What the columns need, on whole registers.
  std::int64_t floats() const { return (bits * words_ + words_at_once) * lanes; }
  // Bytes from the first of `rows` codes on that read() may touch, of eight at a time.
  std::int64_t touched_bytes(std::int64_t rows) const {
    const std::int64_t last = whole_ ? 0 : (bits - 1) * plane_bytes_;
    const std::int64_t words = whole_ ? bits * words_ : words_;
    return (rows - 1) * code_bytes() + last + (words + words_at_once - 1) / words_at_once * chunk_bytes;
  }

  // codes [8, code_bytes()] -> columns [floats()].
  ROTORQUANT_AVX2_INLINE void read(const std::uint8_t* codes, float* columns) const {
    if (whole_) return read_words(codes, bits * words_, columns);
    // In ascending order: what lies beyond a plane is written over by the next.
    for (int j = 0; j < bits; ++j) read_words(codes + j * plane_bytes_, words_, columns + j * words_ * lanes);
  }
  ROTORQUANT_AVX2_INLINE __m256i word(const float* columns, int plane, std::int64_t block) const {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(columns + (plane * words_ + block) * lanes));
  }

 private:
  static constexpr std::int64_t words_at_once = 4;
  static constexpr std::int64_t chunk_bytes = 16;

  // Words [0, words), four at a time, of eight rows code_bytes() apart.
  ROTORQUANT_AVX2_INLINE void read_words(const std::uint8_t* rows, std::int64_t words, float* columns) const {
    const std::int64_t stride = code_bytes();
    for (std::int64_t w = 0; w < words; w += words_at_once) {
      const auto pair = [&](int v) ROTORQUANT_AVX2_LAMBDA {
        const std::uint8_t* place = rows + v * stride + w * 4;
        const auto* low = reinterpret_cast<const float*>(place);
        const auto* high = reinterpret_cast<const float*>(place + 4 * stride);
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
      };
      const __m256 a = pair(0), b = pair(1), c = pair(2), d = pair(3);
      const __m256 ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);
      const __m256 ab_high = _mm256_unpackhi_ps(a, b), cd_high = _mm256_unpackhi_ps(c, d);
      float* out = columns + w * lanes;
      _mm256_store_ps(out, _mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(1, 0, 1, 0)));
      _mm256_store_ps(out + lanes, _mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 2, 3, 2)));
      _mm256_store_ps(out + 2 * lanes, _mm256_shuffle_ps(ab_high, cd_high, _MM_SHUFFLE(1, 0, 1, 0)));
      _mm256_store_ps(out + 3 * lanes, _mm256_shuffle_ps(ab_high, cd_high, _MM_SHUFFLE(3, 2, 3, 2)));
    }
  }

  std::int64_t plane_bytes_;
  std::int64_t words_;
  bool whole_;  // planes follow each other in whole words
};

// mask ? a : b, bit by bit.
ROTORQUANT_AVX2_INLINE __m256i select(__m256i mask, __m256i a, __m256i b) {
  return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}

// Whether symbols_of() leaves the highest bit of every byte clear, which byte shuffles look at.
template <int bits>
inline constexpr bool clear_symbols = bits == 3;

// The symbols of 32 coordinates of eight vectors from their bits of each plane: byte q of a lane of
// symbols[r] is that of coordinate r + 8 q in its lowest bits, with others' bits above.
template <int bits>
ROTORQUANT_AVX2_INLINE void symbols_of(const __m256i (&planes)[bits], __m256i (&symbols)[8]) {
  if constexpr (bits == 1) {
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) symbols[r] = _mm256_srli_epi32(planes[0], r);
  } else {
    const __m256i even = _mm256_set1_epi8(0x55);
    // Bits of two planes side by side, of the even and of the odd coordinates.
    const auto pair = [&](__m256i low, __m256i high, __m256i(&out)[2]) ROTORQUANT_AVX2_LAMBDA {
      out[0] = select(even, low, _mm256_slli_epi32(high, 1));
      out[1] = select(even, _mm256_srli_epi32(low, 1), high);
    };
    __m256i low[2];
    pair(planes[0], planes[1], low);
    if constexpr (bits == 2) {
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) symbols[r] = _mm256_srli_epi32(low[r % 2], r / 2 * 2);
    } else {
      const __m256i pairs = _mm256_set1_epi8(0x33);
      __m256i both[4];
      if constexpr (bits == 3) {
        const __m256i third = _mm256_set1_epi8(0x44);
        const __m256i top[4] = {_mm256_slli_epi32(planes[2], 2), _mm256_slli_epi32(planes[2], 1), planes[2],
                                _mm256_srli_epi32(planes[2], 1)};
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) {
          const __m256i own = r < 2 ? low[r % 2] : _mm256_srli_epi32(low[r % 2], 2);
          both[r] = _mm256_or_si256(_mm256_and_si256(own, pairs), _mm256_and_si256(top[r], third));
        }
      } else {
        __m256i high[2];
        pair(planes[2], planes[3], high);
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) {
          both[r] = r < 2 ? select(pairs, low[r % 2], _mm256_slli_epi32(high[r % 2], 2))
                          : select(pairs, _mm256_srli_epi32(low[r % 2], 2), high[r % 2]);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        symbols[r] = both[r];
        symbols[r + 4] = _mm256_srli_epi32(both[r], 4);
      }
    }
  }
}

}  // namespace rotorquant::avx2
