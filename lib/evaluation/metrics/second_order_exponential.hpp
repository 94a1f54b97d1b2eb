#pragma once
// g(x) = e^x - 1 - x in float32, to the same bits for a number, for a vector of them and on a GPU.
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define ROTORQUANT_HOST_DEVICE __host__ __device__
#else
#define ROTORQUANT_HOST_DEVICE
#endif

namespace rotorquant::evaluation {

// Scores that change by more are handled in float64: e^30 times the smallest float32 probability is still
// nothing.
inline constexpr float largest_change = 30.0F;

// Within 4e-7 of g(x) for |x| <= largest_change. With x = k ln 2 + r, g(x) = 2^k g(r) + (2^k - 1) + (2^k r - x), whose last two
// terms vanish exactly where k = 0. Floats: float or a vector of them; Bits: uint32 or as many of them. To be compiled without
// contraction to fused multiply-adds.
template <typename Floats, typename Bits>
ROTORQUANT_HOST_DEVICE inline Floats second_order_exponential(const Floats& x) {
  constexpr float log2e = 0x1.715476p0F;
  // x + 1.5 * 2^23 rounds x to an integer, which then stands in the lowest bits.
  constexpr float rounding_shift = 0x1.8p23F;
  // ln 2 = ln2_high + ln2_low; the high part has 9 trailing zero bits, so that its product with |k| < 64 is exact.
  constexpr float ln2_high = 0x1.62e4p-1F;
  constexpr float ln2_low = 0x1.7f7d1cp-20F;
  const Floats shifted = x * log2e + rounding_shift;
  const Floats k = shifted - rounding_shift;
  const Floats r = (x - k * ln2_high) - k * ln2_low;
  // g(r) = r² Σ r^n / (n+2)!, n = 6 down to 0: on |r| <= ln 2 / 2 what is left out is below 4e-9 of it.
  Floats series = 1.0F / 40320.0F + Floats{};
  series = series * r + 1.0F / 5040.0F;
  series = series * r + 1.0F / 720.0F;
  series = series * r + 1.0F / 120.0F;
  series = series * r + 1.0F / 24.0F;
  series = series * r + 1.0F / 6.0F;
  series = series * r + 0.5F;
  Bits exponent;  // wraps where x is out of range
  std::memcpy(&exponent, &shifted, sizeof(exponent));
  exponent = (exponent << 23) + (127U << 23);
  Floats power;
  std::memcpy(&power, &exponent, sizeof(power));
  return power * (r * r * series) + ((power - 1.0F) + (power * r - x));
}

}  // namespace rotorquant::evaluation
