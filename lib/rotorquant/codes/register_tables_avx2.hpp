#pragma once
// Eight entries of a table at a time, from registers where four hold it. Internal to
// lib/rotorquant.
#include "rotorquant/core/avx2.hpp"

namespace rotorquant::avx2 {

// A table of 2^bits floats. Of an index the bits above are ignored.
template <int bits>
class RegisterTable {
 public:
  // table [2^bits].
  ROTORQUANT_AVX2_INLINE explicit RegisterTable(const float* table) : table_(table) {
    if constexpr (bits == 0) {
      registers_[0] = _mm256_broadcast_ss(table);
    } else if constexpr (bits == 1) {
      registers_[0] = _mm256_castpd_ps(_mm256_broadcast_sd(reinterpret_cast<const double*>(table)));
    } else if constexpr (bits == 2) {
      registers_[0] = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(table));
    } else {
      for (int i = 0; i < registers; ++i) registers_[i] = _mm256_loadu_ps(table + i * lanes);
    }
  }

  ROTORQUANT_AVX2_INLINE __m256 operator()(__m256i index) const {
    if constexpr (bits == 0) return registers_[0];
    if constexpr (bits == 1 || bits == 2) return _mm256_permutevar_ps(registers_[0], index);
    if constexpr (bits == 3) return entries(0, index);
    if constexpr (bits == 4) return eights(0, index);
    if constexpr (bits == 5) {
      const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 31 - 4));
      return _mm256_blendv_ps(eights(0, index), eights(2, index), upper);
    }
    const __m256i own = _mm256_and_si256(index, _mm256_set1_epi32((1 << bits) - 1));
    return _mm256_i32gather_ps(table_, own, sizeof(float));
  }

 private:
  static constexpr int registers = bits <= 3 ? 1 : bits <= 5 ? 1 << (bits - 3) : 0;

  ROTORQUANT_AVX2_INLINE __m256 entries(int own, __m256i index) const {
    return _mm256_permutevar8x32_ps(registers_[own], index);
  }
  // Of two registers.
  ROTORQUANT_AVX2_INLINE __m256 eights(int first, __m256i index) const {
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 31 - 3));
    return _mm256_blendv_ps(entries(first, index), entries(first + 1, index), upper);
  }

  const float* table_;
  __m256 registers_[registers > 0 ? registers : 1];
};

}  // namespace rotorquant::avx2
