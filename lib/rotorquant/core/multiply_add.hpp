#pragma once
// a b + c, rounded once: to the same bits for a number, for sixteen of them and on a GPU. Where the compiler
// may not use fused multiply-adds, a library function takes their place, to the same bits and slowly.
#include <cmath>
#include <cstdint>

#if defined(__FMA__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

#include "rotorquant/core/host_device.hpp"
#ifndef __CUDACC__
#include "rotorquant/core/register_pair.hpp"
#endif

namespace rotorquant {

ROTORQUANT_HOST_DEVICE inline float multiply_add(float a, float b, float c) {
  return std::fma(a, b, c);
}

#ifndef __CUDACC__
using SixteenFloats = Lanes64<float>;

inline SixteenFloats multiply_add(const SixteenFloats& a, const SixteenFloats& b, const SixteenFloats& c) {
#if defined(__AVX512F__)
  return reinterpret_cast<SixteenFloats>(
      _mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__FMA__)
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
#else
  SixteenFloats sums;
  for (int i = 0; i < 8; ++i) {
    sums.low[i] = std::fma(a.low[i], b.low[i], c.low[i]);
    sums.high[i] = std::fma(a.high[i], b.high[i], c.high[i]);
  }
  return sums;
#endif
}
inline SixteenFloats multiply_add(const SixteenFloats& a, float b, const SixteenFloats& c) {
  return multiply_add(a, b + SixteenFloats{}, c);
}
inline SixteenFloats multiply_add(const SixteenFloats& a, const SixteenFloats& b, float c) {
  return multiply_add(a, b, c + SixteenFloats{});
}
inline SixteenFloats multiply_add(const SixteenFloats& a, float b, float c) {
  return multiply_add(a, b + SixteenFloats{}, c + SixteenFloats{});
}
#endif

}  // namespace rotorquant
