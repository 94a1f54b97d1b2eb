#pragma once
// a b + c, rounded once: to the same bits for a number, for sixteen of them and on a GPU. Where the compiler may
// not use fused multiply-adds, a library function takes their place, to the same bits and slowly.
#include <cmath>
#include <cstdint>

#if defined(__FMA__) && !defined(__CUDACC__)
#include <immintrin.h>

#include <cstring>
#endif

#include "rotorquant/core/host_device.hpp"

namespace rotorquant {

ROTORQUANT_HOST_DEVICE inline float multiply_add(float a, float b, float c) {
  return std::fma(a, b, c);
}

#ifndef __CUDACC__
using SixteenFloats = float __attribute__((vector_size(64)));

inline SixteenFloats multiply_add(const SixteenFloats& a, const SixteenFloats& b, const SixteenFloats& c) {
#if defined(__AVX512F__)
  return reinterpret_cast<SixteenFloats>(
      _mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__FMA__)
  __m256 x[2], y[2], z[2];
  std::memcpy(x, &a, sizeof(x));
  std::memcpy(y, &b, sizeof(y));
  std::memcpy(z, &c, sizeof(z));
  for (int half = 0; half < 2; ++half) z[half] = _mm256_fmadd_ps(x[half], y[half], z[half]);
  SixteenFloats sums;
  std::memcpy(&sums, z, sizeof(sums));
  return sums;
#else
  SixteenFloats sums;
  for (int i = 0; i < 16; ++i) sums[i] = std::fma(a[i], b[i], c[i]);
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
