#pragma once
// Vectors of 64 bytes (register_pair.hpp), here of eight float64. Used as local variables alone, since
// passing them by value is part of no portable calling convention.
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "rotorquant/core/register_pair.hpp"

namespace rotorquant::evaluation {

using Lanes = Lanes64<double>;
using LongLanes = Lanes64<long long>;
inline constexpr std::int64_t lane_count = 8;

// Likewise sixteen float32, int32 and their bits.
using FloatLanes = Lanes64<float>;
using IntLanes = Lanes64<std::int32_t>;
using BitLanes = Lanes64<std::uint32_t>;
inline constexpr std::int64_t float_lane_count = 16;

// Eight float32 as float64.
using HalfFloatLanes = float __attribute__((vector_size(32)));
inline Lanes widen(const HalfFloatLanes& x) {
#if defined(__AVX512F__)
  return reinterpret_cast<Lanes>(_mm512_cvtps_pd(reinterpret_cast<__m256>(x)));  // GCC takes two steps
#else
  using Half = Lanes::Half;
  return {__builtin_convertvector(__builtin_shufflevector(x, x, 0, 1, 2, 3), Half),
          __builtin_convertvector(__builtin_shufflevector(x, x, 4, 5, 6, 7), Half)};
#endif
}
inline Lanes widen(const float* x) {
  HalfFloatLanes half;
  std::memcpy(&half, x, sizeof(half));
  return widen(half);
}

// Lanes 0 to 7, and 8 to 15.
inline HalfFloatLanes lower(const FloatLanes& x) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7);
#else
  return x.low;
#endif
}
inline HalfFloatLanes upper(const FloatLanes& x) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  return x.high;
#endif
}

// The low halves of sixteen int32.
inline void store_halves(const IntLanes& x, std::int16_t* place) {
#if defined(__AVX512F__)
  const auto halves = __builtin_convertvector(x, std::int16_t __attribute__((vector_size(32))));
#elif defined(__AVX2__)
  const __m256i low = _mm256_and_si256(reinterpret_cast<__m256i>(x.low), _mm256_set1_epi32(0xFFFF));
  const __m256i high = _mm256_and_si256(reinterpret_cast<__m256i>(x.high), _mm256_set1_epi32(0xFFFF));
  const __m256i halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
#else
  std::int16_t halves[float_lane_count];
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane)
    halves[lane] = static_cast<std::int16_t>(x[lane]);
#endif
  std::memcpy(place, &halves, sizeof(halves));
}

// Whether a comparison, of as many numbers as are 64 bytes, holds for one of them.
template <typename Matches>
bool any(const Matches& matches) {
#if defined(__AVX512F__)
  LongLanes words;
  static_assert(sizeof(words) == sizeof(matches));
  std::memcpy(&words, &matches, sizeof(words));
  const auto four =
      __builtin_shufflevector(words, words, 0, 1, 2, 3) | __builtin_shufflevector(words, words, 4, 5, 6, 7);
#else
  const auto both = matches.low | matches.high;
  LongLanes::Half four;
  static_assert(sizeof(four) == sizeof(both));
  std::memcpy(&four, &both, sizeof(four));
#endif
  return (four[0] | four[1] | four[2] | four[3]) != 0;
}

}  // namespace rotorquant::evaluation
