#pragma once
// What the AVX2 kernels share. Include only where __x86_64__ is defined. As in avx512.hpp, functions carry
// their instruction set as an attribute.
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "rotorquant/core/element_type.hpp"

#define ROTORQUANT_AVX2 __attribute__((target("avx2,fma,f16c")))
#define ROTORQUANT_AVX2_LAMBDA __attribute__((target("avx2,fma,f16c"), always_inline))
#define ROTORQUANT_AVX2_INLINE ROTORQUANT_AVX2_LAMBDA inline

namespace rotorquant::avx2 {

inline constexpr std::int64_t lanes = 8;  // floats of a register

template <ElementType type>
ROTORQUANT_AVX2_INLINE __m256 widen(__m128i bits) {
  if constexpr (type == ElementType::float16) return _mm256_cvtph_ps(bits);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// Numbers [first, first + 8) of a row of numbers of a type, in float32.
template <ElementType type>
ROTORQUANT_AVX2_INLINE __m256 load(const void* row, std::int64_t first) {
  if constexpr (type == ElementType::float32) {
    return _mm256_loadu_ps(static_cast<const float*>(row) + first);
  } else {
    const auto* place = static_cast<const std::uint16_t*>(row) + first;
    return widen<type>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(place)));
  }
}

// The first `count` of them, the others 0 and not read.
template <ElementType type>
ROTORQUANT_AVX2_INLINE __m256 load(const void* row, std::int64_t first, std::int64_t count) {
  if (count >= lanes) return load<type>(row, first);
  alignas(32) std::uint8_t padded[32] = {};
  std::memcpy(padded, static_cast<const std::uint8_t*>(row) + first * element_bytes(type),
              static_cast<std::size_t>(count * element_bytes(type)));
  return load<type>(padded, 0);
}

// To a 16-bit type, to nearest even; NaNs become quiet.
template <ElementType type>
ROTORQUANT_AVX2_INLINE __m128i narrow(__m256 values) {
  if constexpr (type == ElementType::float16)
    return _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256i word = _mm256_castps_si256(values);
  const __m256i high = _mm256_srli_epi32(word, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(word, _mm256_set1_epi32(0x7FFF)), odd), 16);
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(values, values, _CMP_UNORD_Q));
  const __m256i bits = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
}

// The inverse of load.
template <ElementType type>
ROTORQUANT_AVX2_INLINE void store(__m256 values, void* row, std::int64_t first) {
  if constexpr (type == ElementType::float32) {
    _mm256_storeu_ps(static_cast<float*>(row) + first, values);
  } else {
    auto* place = static_cast<std::uint16_t*>(row) + first;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(place), narrow<type>(values));
  }
}
template <ElementType type>
ROTORQUANT_AVX2_INLINE void store(__m256 values, void* row, std::int64_t first, std::int64_t count) {
  if (count >= lanes) return store<type>(values, row, first);
  alignas(32) std::uint8_t padded[32];
  store<type>(values, padded, 0);
  std::memcpy(static_cast<std::uint8_t*>(row) + first * element_bytes(type), padded,
              static_cast<std::size_t>(count * element_bytes(type)));
}

// store() past the caches, to places that are multiples of eight numbers' bytes.
template <ElementType type>
ROTORQUANT_AVX2_INLINE void stream(__m256 values, void* row, std::int64_t first) {
  if constexpr (type == ElementType::float32) {
    _mm256_stream_ps(static_cast<float*>(row) + first, values);
  } else {
    auto* place = static_cast<std::uint16_t*>(row) + first;
    _mm_stream_si128(reinterpret_cast<__m128i*>(place), narrow<type>(values));
  }
}

// Sixteen running sums, lanes 0 to 7 and 8 to 15, added as plain loops add them: the upper half to the lower
// half until one is left.
ROTORQUANT_AVX2_INLINE float fold(__m256 low, __m256 high) {
  const __m256 eight = _mm256_add_ps(low, high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// body(first, sum's register) for each eight of `count` coordinates: those of 16 running sums in turn.
template <typename Body>
ROTORQUANT_AVX2_INLINE void for_each_eight(std::int64_t count, const Body& body) {
  std::int64_t c = 0;
  for (; c + 2 * lanes <= count; c += 2 * lanes) {
    body(c, 0);
    body(c + lanes, 1);
  }
  if (c < count) body(c, 0);
  if (c + lanes < count) body(c + lanes, 1);
}

}  // namespace rotorquant::avx2
