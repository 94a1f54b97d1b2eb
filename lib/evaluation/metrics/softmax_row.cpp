#include "evaluation/metrics/softmax_row.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <numbers>

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/panel_product.hpp"

namespace rotorquant::evaluation {
namespace {

// Below this, e^x would leave the normal range (2^-1022 is e^-708.4); such a share of an attention row is 0.
constexpr double smallest_exponent = -708.0;
// x + 1.5 * 2^52 rounds x to an integer, which then stands in the lowest bits.
constexpr double rounding_shift = 0x1.8p52;
// ln 2 = ln2_high + ln2_low; the high part has 21 trailing zero bits, so that its product with k up to 1024
// is exact.
constexpr double ln2_high = 0x1.62e42feep-1;
constexpr double ln2_low = 0x1.a39ef35793c76p-33;
// Taylor coefficients 1/n!, n = 13 down to 0: on |r| <= ln 2 / 2 what is left out, r^14/14!, is below 5e-18.
constexpr double coefficients[] = {1.0 / 6227020800.0,
                                   1.0 / 479001600.0,
                                   1.0 / 39916800.0,
                                   1.0 / 3628800.0,
                                   1.0 / 362880.0,
                                   1.0 / 40320.0,
                                   1.0 / 5040.0,
                                   1.0 / 720.0,
                                   1.0 / 120.0,
                                   1.0 / 24.0,
                                   1.0 / 6.0,
                                   0.5,
                                   1.0,
                                   1.0};

}  // namespace

double exponentials(const double* products, std::int64_t visible, std::int64_t count, double scale,
                    double shift, double* out) {
  for (std::int64_t j = 0; j < visible; j += lane_count) {
    Lanes x;
    std::memcpy(&x, products + j, sizeof(x));
    x = x * scale - shift;
    // Only what follows the visible products can be above 0, and that is overwritten below.
    x = x > 0.0 ? Lanes{} : x;
    const auto underflow = x < smallest_exponent;
    x = underflow ? Lanes{} : x;

    // e^x = 2^k e^r with k = round(x / ln 2)
    const Lanes shifted = x * std::numbers::log2e + rounding_shift;
    const Lanes k = shifted - rounding_shift;
    const Lanes r = (x - k * ln2_high) - k * ln2_low;
    Lanes power = coefficients[0] + Lanes{};
    for (std::size_t n = 1; n < std::size(coefficients); ++n) power = power * r + coefficients[n];
    LongLanes exponent;
    std::memcpy(&exponent, &shifted, sizeof(exponent));
    exponent = (exponent << 52) + (1023LL << 52);
    Lanes scale_of_two;
    std::memcpy(&scale_of_two, &exponent, sizeof(scale_of_two));
    power = underflow ? Lanes{} : power * scale_of_two;
    std::memcpy(out + j, &power, sizeof(power));
  }
  std::fill(out + visible, out + round_up(count, lane_count), 0.0);

  Lanes sums = {};
  for (std::int64_t j = 0; j < visible; j += lane_count) {
    Lanes power;
    std::memcpy(&power, out + j, sizeof(power));
    sums += power;
  }
  double total = 0.0;
  for (std::int64_t lane = 0; lane < lane_count; ++lane) total += sums[lane];
  return total;
}

}  // namespace rotorquant::evaluation
