#include "evaluation/metrics/changed_row.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/panel_product.hpp"
#include "evaluation/metrics/softmax_row.hpp"

namespace rotorquant::evaluation {
namespace {

// Scores that change by more are handled in float64: e^30 times the smallest float32 probability is still
// nothing.
constexpr float largest_change = 30.0F;
// Vectors summed in float32 before the sums join those in float64.
constexpr std::int64_t float_terms = 16;
// x + 1.5 * 2^23 rounds x to an integer, which then stands in the lowest bits.
constexpr float rounding_shift = 0x1.8p23F;
// ln 2 = ln2_high + ln2_low; the high part has 9 trailing zero bits, so that its product with |k| < 64 is exact.
constexpr float ln2_high = 0x1.62e4p-1F;
constexpr float ln2_low = 0x1.7f7d1cp-20F;
// g(r) = r² Σ coefficients r^n, 1/(n+2)!, n = 6 down to 0: on |r| <= ln 2 / 2 what is left out is below 4e-9 of it.
constexpr float coefficients[] = {1.0F / 40320.0F, 1.0F / 5040.0F, 1.0F / 720.0F, 1.0F / 120.0F,
                                  1.0F / 24.0F,    1.0F / 6.0F,    0.5F};

// Σ of float32 in float64, in an order that depends on the number of terms alone.
class LaneSum {
 public:
  void add(const FloatLanes& terms) { part_ += terms; }
  void carry() {
    low_ += __builtin_convertvector(__builtin_shufflevector(part_, part_, 0, 1, 2, 3, 4, 5, 6, 7), Lanes);
    high_ +=
        __builtin_convertvector(__builtin_shufflevector(part_, part_, 8, 9, 10, 11, 12, 13, 14, 15), Lanes);
    part_ = FloatLanes{};
  }
  double total() const {
    const Lanes sums = low_ + high_;
    double total = 0.0;
    for (std::int64_t lane = 0; lane < lane_count; ++lane) total += sums[lane];
    return total;
  }

 private:
  FloatLanes part_ = {};
  Lanes low_ = {};
  Lanes high_ = {};
};

// g(x) = e^x - 1 - x, within 4e-7 of itself for |x| <= largest_change. With x = k ln 2 + r,
// g(x) = 2^k g(r) + (2^k - 1) + (2^k r - x), whose last two terms vanish exactly where k = 0.
inline FloatLanes second_order_exponential(const FloatLanes& x) {
  const FloatLanes shifted = x * std::numbers::log2e_v<float> + rounding_shift;
  const FloatLanes k = shifted - rounding_shift;
  const FloatLanes r = (x - k * ln2_high) - k * ln2_low;
  FloatLanes series = coefficients[0] + FloatLanes{};
  for (std::size_t n = 1; n < std::size(coefficients); ++n) series = series * r + coefficients[n];
  BitLanes exponent;  // wraps where x is out of range
  std::memcpy(&exponent, &shifted, sizeof(exponent));
  exponent = (exponent << 23) + (127U << 23);
  FloatLanes power;
  std::memcpy(&power, &exponent, sizeof(power));
  return power * (r * r * series) + ((power - 1.0F) + (power * r - x));
}

RowSums sum_errors(const ExactRow& exact, const float* errors, float* estimates) {
  const auto mean = static_cast<float>(exact.mean_product);
  LaneSum error_sum;
  LaneSum squares;
  LaneSum error_truth;
  LaneSum expected;
  for (std::int64_t begin = 0; begin < exact.visible; begin += float_terms * float_lane_count) {
    const std::int64_t end = std::min(begin + float_terms * float_lane_count, exact.visible);
    for (std::int64_t j = begin; j < end; j += float_lane_count) {
      const FloatLanes error = load_lanes(errors + j);
      const FloatLanes truth = load_lanes(exact.products + j);
      store_lanes(estimates + j, truth + error);
      error_sum.add(error);
      squares.add(error * error);
      error_truth.add(error * (truth - mean));
      expected.add(load_lanes(exact.probabilities + j) * error);
    }
    error_sum.carry();
    squares.carry();
    error_truth.carry();
    expected.carry();
  }
  return {.error = error_sum.total(),
          .squared_error = squares.total(),
          .error_truth = error_truth.total(),
          .expected_error = expected.total()};
}

// errors: e -> p (x + g(x)). Returns G, or NaN where some score changes by more than largest_change.
double weigh_changes(const ExactRow& exact, double expected_error, float* errors) {
  const auto scale = static_cast<float>(exact.scale);
  const auto mean = static_cast<float>(expected_error);
  FloatLanes largest = {};
  LaneSum second_order;
  for (std::int64_t begin = 0; begin < exact.visible; begin += float_terms * float_lane_count) {
    const std::int64_t end = std::min(begin + float_terms * float_lane_count, exact.visible);
    for (std::int64_t j = begin; j < end; j += float_lane_count) {
      // Rows follow one another in memory: the next one's arrives while this one's exponentials are computed.
      __builtin_prefetch(exact.products + exact.stride + j);
      __builtin_prefetch(exact.probabilities + exact.stride + j);
      const FloatLanes x = scale * (load_lanes(errors + j) - mean);
      const FloatLanes size = x < 0.0F ? -x : x;
      largest = size > largest ? size : largest;
      const FloatLanes probability = load_lanes(exact.probabilities + j);
      const FloatLanes g = second_order_exponential(x);
      second_order.add(probability * g);
      store_lanes(errors + j, probability * (x + g));
    }
    second_order.carry();
  }
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane) {
    if (!(largest[lane] <= largest_change)) return std::nan("");
  }
  return second_order.total();
}

// The same in float64, from t + e. Returns the divergence.
double change_widely(const ExactRow& exact, double expected_error, const float* estimates, float* errors,
                     AlignedBuffer& wide) {
  wide.reserve(round_up(exact.visible, lane_count));
  double* powers = wide.data();
  std::copy_n(estimates, exact.visible, powers);
  const double shift = exact.scale * *std::max_element(powers, powers + exact.visible);
  const double sum = exponentials(powers, exact.visible, exact.visible, exact.scale, shift, powers);
  for (std::int64_t j = 0; j < exact.visible; ++j)
    errors[j] = static_cast<float>(powers[j] / sum - static_cast<double>(exact.probabilities[j]));
  std::fill(errors + exact.visible, errors + round_up(exact.visible, float_lane_count), 0.0F);
  const double divergence = shift + std::log(sum) - exact.log_sum_exp - exact.scale * expected_error;
  return divergence < 0.0 ? 0.0 : divergence;  // a NaN stays one
}

}  // namespace

RowChange change_row(const ExactRow& exact, float* errors, float* estimates, AlignedBuffer& wide) {
  const std::int64_t padded = round_up(exact.visible, float_lane_count);
  std::fill(errors + exact.visible, errors + padded, 0.0F);
  RowChange change;
  change.sums = sum_errors(exact, errors, estimates);
  const double second_order = weigh_changes(exact, change.sums.expected_error, errors);
  if (std::isnan(second_order)) {
    change.divergence = change_widely(exact, change.sums.expected_error, estimates, errors, wide);
    return change;
  }
  change.divergence = std::log1p(second_order);
  const auto shift = static_cast<float>(second_order);
  const auto inverse = static_cast<float>(1.0 / (1.0 + second_order));
  for (std::int64_t j = 0; j < padded; j += float_lane_count) {
    store_lanes(errors + j, (load_lanes(errors + j) - shift * load_lanes(exact.probabilities + j)) * inverse);
  }
  return change;
}

}  // namespace rotorquant::evaluation
