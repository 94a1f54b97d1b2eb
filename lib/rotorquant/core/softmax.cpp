#include "rotorquant/core/softmax.hpp"

#include <algorithm>

#include "rotorquant/core/exponentials.hpp"

namespace rotorquant {
namespace {

// Terms summed side by side, in as many lanes as the widest registers have.
constexpr std::int64_t lanes = 16;
// Below this, e^x leaves float32's normal range; such a share of a row is 0.
constexpr float smallest_exponent = -87.0F;

// e^x, x <= 0, as 2^k e^r with a Taylor series: on |r| <= ln 2 / 2 what r^7 leaves out is below 1.3e-7 of it.
inline float exponential(float x) {
  const float bounded = std::max(x, smallest_exponent);
  float shifted;
  const float r = reduce_exponent(bounded, shifted);
  float series = 1.0F / 720.0F;
  series = series * r + 1.0F / 120.0F;
  series = series * r + 1.0F / 24.0F;
  series = series * r + 1.0F / 6.0F;
  series = series * r + 0.5F;
  series = series * r + 1.0F;
  series = series * r + 1.0F;
  const auto power = power_of_two<float, std::uint32_t>(shifted);
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
