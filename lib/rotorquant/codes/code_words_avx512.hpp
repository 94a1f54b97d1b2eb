#pragma once
// Codes of sixteen vectors with the same bit of the same coordinate in the same place, so that one
// instruction works on that bit of them all. Internal to lib/rotorquant.
#include <cstdint>

#include "rotorquant/core/transpose_avx512.hpp"

namespace rotorquant::avx512 {

// Codes of sixteen vectors as columns of 32-bit words.
class CodeWords {
 public:
  // What it needs for codes of so many bytes, on whole cache lines.
  static std::int64_t floats(std::int64_t bytes) { return ((bytes + 63) / 64 * 16 + 1) * lanes; }
  explicit CodeWords(float* memory) : words_(memory) {}

  // codes [count, bytes]; vectors from `count` on have zeros.
  ROTORQUANT_AVX512_INLINE void read(const std::uint8_t* codes, std::int64_t bytes,
                                     std::int64_t count) const {
    for (std::int64_t first = 0; first < bytes; first += 64) {
      const std::int64_t left = bytes - first;
      const __mmask64 valid = left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
      __m512 rows[16];
      if (count >= lanes) {
#pragma GCC unroll 16
        for (int v = 0; v < 16; ++v) {
          const std::uint8_t* place = codes + v * bytes + first;
          _mm_prefetch(reinterpret_cast<const char*>(place) + ahead, _MM_HINT_T0);
          rows[v] = _mm512_castsi512_ps(_mm512_maskz_loadu_epi8(valid, place));
        }
      } else {
        for (int v = 0; v < 16; ++v)
          rows[v] = v < count ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi8(valid, codes + v * bytes + first))
                              : _mm512_setzero_ps();
      }
      transpose_sixteen(rows);
#pragma GCC unroll 16
      for (int m = 0; m < 16; ++m) _mm512_store_ps(words_ + (first / 4 + m) * lanes, rows[m]);
    }
    _mm512_store_ps(words_ + (bytes + 63) / 64 * 16 * lanes, _mm512_setzero_ps());
  }

  ROTORQUANT_AVX512_INLINE __m512i word(std::int64_t index) const {
    return _mm512_load_si512(words_ + index * lanes);
  }
  // Bits [bit, bit + 32).
  ROTORQUANT_AVX512_INLINE __m512i bits_from(std::int64_t bit) const {
    const auto shift = static_cast<int>(bit % 32);
    return bits_from(bit / 32, _mm512_set1_epi32(shift), _mm512_set1_epi32(32 - shift));
  }
  // The same from bit `shift` of a word on; rest = 32 - shift.
  ROTORQUANT_AVX512_INLINE __m512i bits_from(std::int64_t index, __m512i shift, __m512i rest) const {
    return _mm512_or_si512(_mm512_srlv_epi32(word(index), shift), _mm512_sllv_epi32(word(index + 1), rest));
  }
  ROTORQUANT_AVX512_INLINE __m512i number(std::int64_t bit, int bits) const {
    return _mm512_and_si512(bits_from(bit), _mm512_set1_epi32((1 << bits) - 1));
  }

 private:
  // Bytes: a page, which the processor's own prefetching does not leave.
  static constexpr std::int64_t ahead = 4096;

  float* words_;
};

}  // namespace rotorquant::avx512
