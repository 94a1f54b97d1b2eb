#pragma once
// The exponentials of attention rows, to the same bits for a number, for a vector of them and on a GPU: to be
// compiled without contraction to fused multiply-adds.
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

// Within 4e-7 of g(x) for |x| <= largest_change. With x = k ln 2 + r, g(x) = 2^k g(r) + (2^k - 1) + (2^k r -
// x), whose last two terms vanish exactly where k = 0. Floats: float or a vector of them; Bits: uint32 or as
// many of them.
template <typename Floats, typename Bits>
ROTORQUANT_HOST_DEVICE inline Floats second_order_exponential(const Floats& x) {
  constexpr float log2e = 0x1.715476p0F;
  // x + 1.5 * 2^23 rounds x to an integer, which then stands in the lowest bits.
  constexpr float rounding_shift = 0x1.8p23F;
  // ln 2 = ln2_high + ln2_low; the high part has 9 trailing zero bits, so that its product with |k| < 64 is
  // exact.
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

// e^x for x <= 0, within 1.5 units in the last place, and 0 below e^-708, where e^x would leave the normal
// range; 1 for x > 0. Doubles: double or a vector of them; Bits: int64 or as many of them.
template <typename Doubles, typename Bits>
ROTORQUANT_HOST_DEVICE inline Doubles share_exponential(const Doubles& exponent) {
  constexpr double smallest_exponent = -708.0;
  constexpr double log2e = 0x1.71547652b82fep0;
  // As above, with 1.5 * 2^52, and 21 trailing zero bits for k up to 1024.
  constexpr double rounding_shift = 0x1.8p52;
  constexpr double ln2_high = 0x1.62e42feep-1;
  constexpr double ln2_low = 0x1.a39ef35793c76p-33;
  Doubles x = exponent > 0.0 ? Doubles{} : exponent;
  const auto underflow = x < smallest_exponent;
  x = underflow ? Doubles{} : x;
  const Doubles shifted = x * log2e + rounding_shift;
  const Doubles k = shifted - rounding_shift;
  const Doubles r = (x - k * ln2_high) - k * ln2_low;
  // Σ r^n / n!, n = 13 down to 0: on |r| <= ln 2 / 2 what is left out, r^14/14!, is below 5e-18.
  Doubles power = 1.0 / 6227020800.0 + Doubles{};
  power = power * r + 1.0 / 479001600.0;
  power = power * r + 1.0 / 39916800.0;
  power = power * r + 1.0 / 3628800.0;
  power = power * r + 1.0 / 362880.0;
  power = power * r + 1.0 / 40320.0;
  power = power * r + 1.0 / 5040.0;
  power = power * r + 1.0 / 720.0;
  power = power * r + 1.0 / 120.0;
  power = power * r + 1.0 / 24.0;
  power = power * r + 1.0 / 6.0;
  power = power * r + 0.5;
  power = power * r + 1.0;
  power = power * r + 1.0;
  Bits bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits << 52) + (1023LL << 52);
  Doubles scale_of_two;
  std::memcpy(&scale_of_two, &bits, sizeof(scale_of_two));
  return underflow ? Doubles{} : power * scale_of_two;
}

}  // namespace rotorquant::evaluation

#undef ROTORQUANT_HOST_DEVICE
