#pragma once
// Vectors (here of eight float64) that GCC and Clang keep in whatever vector registers the target has: one of
// 512 bits or several smaller. Used as local variables alone, since passing them by value is part of no
// portable calling convention.
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace rotorquant::evaluation {

using Lanes = double __attribute__((vector_size(64)));
using LongLanes = long long __attribute__((vector_size(64)));
inline constexpr std::int64_t lane_count = 8;

// Likewise sixteen float32, int32, their bits, and int16.
using FloatLanes = float __attribute__((vector_size(64)));
using IntLanes = std::int32_t __attribute__((vector_size(64)));
using BitLanes = std::uint32_t __attribute__((vector_size(64)));
using ShortLanes = std::int16_t __attribute__((vector_size(32)));
inline constexpr std::int64_t float_lane_count = 16;

inline FloatLanes load_lanes(const float* x) {
  FloatLanes lanes;
  std::memcpy(&lanes, x, sizeof(lanes));
  return lanes;
}

// Eight float32 as float64.
using HalfFloatLanes = float __attribute__((vector_size(32)));
inline Lanes widen(const HalfFloatLanes& x) {
#if defined(__AVX512F__)
  return reinterpret_cast<Lanes>(_mm512_cvtps_pd(reinterpret_cast<__m256>(x)));  // GCC takes two steps
#else
  return __builtin_convertvector(x, Lanes);
#endif
}
inline Lanes widen(const float* x) {
  HalfFloatLanes half;
  std::memcpy(&half, x, sizeof(half));
  return widen(half);
}

inline void store_lanes(float* x, const FloatLanes& lanes) {
  std::memcpy(x, &lanes, sizeof(lanes));
}

// Whether a comparison, of as many numbers as are 64 bytes, holds for one of them.
template <typename Matches>
bool any(const Matches& matches) {
  LongLanes words;
  static_assert(sizeof(words) == sizeof(matches));
  std::memcpy(&words, &matches, sizeof(words));
  words |= __builtin_shufflevector(words, words, 4, 5, 6, 7, 0, 1, 2, 3);
  words |= __builtin_shufflevector(words, words, 2, 3, 0, 1, 6, 7, 4, 5);
  return (words[0] | words[1]) != 0;
}

}  // namespace rotorquant::evaluation
