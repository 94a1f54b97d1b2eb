#include "rotorquant/core/softmax.hpp"

#include <algorithm>
#include <bit>
#include <numbers>

namespace rotorquant {
namespace {

// Terms summed side by side, in as many lanes as the widest registers have.
constexpr std::int64_t lanes = 16;
// Below this, e^x leaves float32's normal range; such a share of a row is 0.
constexpr float smallest_exponent = -87.0F;
// x + 1.5 * 2^23 rounds x to an integer, which then stands in the lowest bits.
constexpr float rounding_shift = 0x1.8p23F;
// ln 2 = ln2_high + ln2_low; the high part has 9 trailing zero bits, so that its product with |k| < 512 is
// exact.
constexpr float ln2_high = 0x1.62e4p-1F;
constexpr float ln2_low = 0x1.7f7d1cp-20F;

// e^x, x <= 0, as 2^k e^r with a Taylor series: on |r| <= ln 2 / 2 what r^7 leaves out is below 1.3e-7 of it.
inline float exponential(float x) {
  const float bounded = std::max(x, smallest_exponent);
  const float shifted = bounded * std::numbers::log2e_v<float> + rounding_shift;
  const float k = shifted - rounding_shift;
  const float r = (bounded - k * ln2_high) - k * ln2_low;
  float series = 1.0F / 720.0F;
  series = series * r + 1.0F / 120.0F;
  series = series * r + 1.0F / 24.0F;
  series = series * r + 1.0F / 6.0F;
  series = series * r + 0.5F;
  series = series * r + 1.0F;
  series = series * r + 1.0F;
  const float power = std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) << 23) + (127U << 23));
  return x < smallest_exponent ? 0.0F : series * power;
}

}  // namespace

void softmax(float* row, std::int64_t count, float scale) {
  float largest[lanes];
  std::fill_n(largest, lanes, row[0]);
  std::int64_t whole = count / lanes * lanes;
  for (std::int64_t t = 0; t < whole; t += lanes) {
    for (std::int64_t i = 0; i < lanes; ++i) largest[i] = row[t + i] > largest[i] ? row[t + i] : largest[i];
  }
  float most = *std::max_element(largest, largest + lanes);
  for (std::int64_t t = whole; t < count; ++t) most = std::max(most, row[t]);

  float sums[lanes] = {};
  for (std::int64_t t = 0; t < whole; t += lanes) {
    for (std::int64_t i = 0; i < lanes; ++i) {
      row[t + i] = exponential(scale * (row[t + i] - most));
      sums[i] += row[t + i];
    }
  }
  for (std::int64_t t = whole; t < count; ++t) {
    row[t] = exponential(scale * (row[t] - most));
    sums[t - whole] += row[t];
  }
  float sum = 0.0F;
  for (const float part : sums) sum += part;
  const float inverse = 1.0F / sum;
  for (std::int64_t t = 0; t < count; ++t) row[t] *= inverse;
}

}  // namespace rotorquant
