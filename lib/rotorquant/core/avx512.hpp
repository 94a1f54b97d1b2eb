#pragma once
// What the AVX-512 kernels share. Include only where __x86_64__ is defined.
//
// Functions carry their instruction set as an attribute instead of per-file flags: no inline function of
// another header is compiled for AVX-512, and the rest of the program runs anywhere.
#include <immintrin.h>

#include <cstdint>

#include "rotorquant/core/element_type.hpp"

// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for mistakes (GCC bug
// 105593).
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define ROTORQUANT_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c")))
#define ROTORQUANT_AVX512_LAMBDA \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c"), always_inline))
#define ROTORQUANT_AVX512_INLINE ROTORQUANT_AVX512_LAMBDA inline
// With products of bytes: only where vnni_supported().
#define ROTORQUANT_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,avx512vnni")))
#define ROTORQUANT_VNNI_LAMBDA \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,avx512vnni"), always_inline))
#define ROTORQUANT_VNNI_INLINE ROTORQUANT_VNNI_LAMBDA inline
// With permutations of bytes and matrices of bits: only where byte_matrices_supported().
#define ROTORQUANT_VBMI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,avx512vbmi,gfni")))
#define ROTORQUANT_VBMI_LAMBDA \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,avx512vbmi,gfni"), always_inline))

namespace rotorquant::avx512 {

inline constexpr std::int64_t lanes = 16;  // floats of a register

// The lanes of coordinates [16 k, 16 k + 16) below dim.
ROTORQUANT_AVX512_INLINE __mmask16 lanes_below(std::int64_t left) {
  return left >= lanes ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1U << left) - 1U);
}

template <ElementType type>
ROTORQUANT_AVX512_INLINE __m512 widen(__m256i bits) {
  if constexpr (type == ElementType::float16) return _mm512_cvtph_ps(bits);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// Coordinates [first, first + 16) of a row of numbers of a type, in float32.
template <ElementType type>
ROTORQUANT_AVX512_INLINE __m512 load(const void* row, std::int64_t first) {
  if constexpr (type == ElementType::float32) {
    return _mm512_loadu_ps(static_cast<const float*>(row) + first);
  } else {
    const auto* bits = static_cast<const std::uint16_t*>(row) + first;
    return widen<type>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits)));
  }
}

// The same with zeros outside `mask`, where nothing is read.
template <ElementType type>
ROTORQUANT_AVX512_INLINE __m512 load(const void* row, std::int64_t first, __mmask16 mask) {
  if constexpr (type == ElementType::float32) {
    return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(row) + first);
  } else {
    return widen<type>(_mm256_maskz_loadu_epi16(mask, static_cast<const std::uint16_t*>(row) + first));
  }
}

// Coordinates [first, first + 8).
template <ElementType type>
ROTORQUANT_AVX512_INLINE __m256 load_eight(const void* row, std::int64_t first) {
  if constexpr (type == ElementType::float32) {
    return _mm256_loadu_ps(static_cast<const float*>(row) + first);
  } else {
    const auto* place = static_cast<const std::uint16_t*>(row) + first;
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(place));
    if constexpr (type == ElementType::float16) return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
}

// To a 16-bit type, to nearest even; NaNs become quiet.
template <ElementType type>
ROTORQUANT_AVX512_INLINE __m256i narrow(__m512 values) {
  if constexpr (type == ElementType::float16)
    return _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512i word = _mm512_castps_si512(values);
  const __m512i high = _mm512_srli_epi32(word, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(word, _mm512_set1_epi32(0x7FFF)), odd), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40)));
}

// The inverse of load. Masked stores are slow on some processors, hence the two forms.
template <ElementType type>
ROTORQUANT_AVX512_INLINE void store(__m512 values, void* row, std::int64_t first) {
  if constexpr (type == ElementType::float32) {
    _mm512_storeu_ps(static_cast<float*>(row) + first, values);
  } else {
    auto* place = static_cast<std::uint16_t*>(row) + first;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(place), narrow<type>(values));
  }
}
template <ElementType type>
ROTORQUANT_AVX512_INLINE void store(__m512 values, void* row, std::int64_t first, __mmask16 mask) {
  if constexpr (type == ElementType::float32) {
    _mm512_mask_storeu_ps(static_cast<float*>(row) + first, mask, values);
  } else {
    _mm256_mask_storeu_epi16(static_cast<std::uint16_t*>(row) + first, mask, narrow<type>(values));
  }
}

// The same past the caches; the address is a multiple of the bytes of 16 numbers.
template <ElementType type>
ROTORQUANT_AVX512_INLINE void stream(__m512 values, void* row, std::int64_t first) {
  if constexpr (type == ElementType::float32) {
    _mm512_stream_ps(static_cast<float*>(row) + first, values);
  } else {
    auto* place = static_cast<std::uint16_t*>(row) + first;
    _mm256_stream_si256(reinterpret_cast<__m256i*>(place), narrow<type>(values));
  }
}

}  // namespace rotorquant::avx512
