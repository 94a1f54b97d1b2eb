#pragma once
// The exponentials of attention rows, to the same bits for a number, for a vector of them and on a GPU: to be
// compiled without contraction to fused multiply-adds.
//
// Numbers: float or double, or a vector of them; Bits: unsigned or signed integers of the same width, as
// many.
#include "rotorquant/core/host_device.hpp"
#include "rotorquant/core/multiply_add.hpp"
#include "rotorquant/core/vector_functions.hpp"

namespace rotorquant {

// float: x = k ln 2 + r, |r| <= ln 2 / 2. Returns r; `shifted` has the integer k in its lowest bits.
template <typename Numbers>
ROTORQUANT_HOST_DEVICE inline Numbers reduce_exponent(const Numbers& x, Numbers& shifted) {
  constexpr float log2e = 0x1.715476p0F;
  // x + 1.5 * 2^23 rounds x to an integer, which then stands in the lowest bits.
  constexpr float rounding_shift = 0x1.8p23F;
  // ln 2 = ln2_high + ln2_low; the high part has 9 trailing zero bits, so that its product with |k| < 512 is
  // exact.
  constexpr float ln2_high = 0x1.62e4p-1F;
  constexpr float ln2_low = 0x1.7f7d1cp-20F;
  shifted = x * log2e + rounding_shift;
  const Numbers k = shifted - rounding_shift;
  return (x - k * ln2_high) - k * ln2_low;
}

// float: 2^k of the k that `shifted` has in its lowest bits; it wraps where 2^k is out of range.
template <typename Numbers, typename Bits>
ROTORQUANT_HOST_DEVICE inline Numbers power_of_two(const Numbers& shifted) {
  const Bits exponent = (same_bits<Bits>(shifted) << 23) + (127U << 23);
  return same_bits<Numbers>(exponent);
}

// float: g(x) = e^x - 1 - x, within 3e-7 of itself for |x| <= 30. With x = k ln 2 + r,
// g(x) = 2^k g(r) + (2^k - 1) + (2^k r - x), whose last two terms vanish exactly where k = 0. Multiplications
// and additions are fused, where reduce_exponent's are not.
template <typename Numbers, typename Bits>
ROTORQUANT_HOST_DEVICE inline Numbers second_order_exponential(const Numbers& x) {
  constexpr float log2e = 0x1.715476p0F;
  constexpr float rounding_shift = 0x1.8p23F;
  constexpr float ln2_high = 0x1.62e43p-1F;  // ln 2 = ln2_high + ln2_low
  constexpr float ln2_low = -0x1.05c61p-29F;
  const Numbers shifted = multiply_add(x, log2e, rounding_shift);
  const Numbers k = shifted - rounding_shift;
  const Numbers r = multiply_add(k, -ln2_low, multiply_add(k, -ln2_high, x));
  // g(r) = r² Σ r^n / (n+2)!, n = 6 down to 0: on |r| <= ln 2 / 2 what is left out is below 4e-9 of it.
  Numbers series = 1.0F / 40320.0F + Numbers{};
  series = multiply_add(series, r, 1.0F / 5040.0F);
  series = multiply_add(series, r, 1.0F / 720.0F);
  series = multiply_add(series, r, 1.0F / 120.0F);
  series = multiply_add(series, r, 1.0F / 24.0F);
  series = multiply_add(series, r, 1.0F / 6.0F);
  series = multiply_add(series, r, 0.5F);
  const Numbers power = power_of_two<Numbers, Bits>(shifted);
  return multiply_add(power, r * r * series, (power - 1.0F) + multiply_add(power, r, -x));
}

// double: e^x for x <= 0, within 1.5 units in the last place, and 0 below e^-708, where e^x would leave the
// normal range; 1 for x > 0.
template <typename Numbers, typename Bits>
ROTORQUANT_HOST_DEVICE inline Numbers share_exponential(const Numbers& exponent) {
  constexpr double smallest_exponent = -708.0;
  constexpr double log2e = 0x1.71547652b82fep0;
  // As for float, with 1.5 * 2^52, and 21 trailing zero bits for k up to 1024.
  constexpr double rounding_shift = 0x1.8p52;
  constexpr double ln2_high = 0x1.62e42feep-1;
  constexpr double ln2_low = 0x1.a39ef35793c76p-33;
  Numbers x = choose(exponent > 0.0, Numbers{}, exponent);
  const auto underflow = x < smallest_exponent;
  x = choose(underflow, Numbers{}, x);
  const Numbers shifted = x * log2e + rounding_shift;
  const Numbers k = shifted - rounding_shift;
  const Numbers r = (x - k * ln2_high) - k * ln2_low;
  // Σ r^n / n!, n = 13 down to 0: on |r| <= ln 2 / 2 what is left out, r^14/14!, is below 5e-18.
  Numbers power = 1.0 / 6227020800.0 + Numbers{};
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
  const Bits bits = (same_bits<Bits>(shifted) << 52) + (1023LL << 52);
  const auto scale_of_two = same_bits<Numbers>(bits);
  return choose(underflow, Numbers{}, Numbers(power * scale_of_two));
}

}  // namespace rotorquant
