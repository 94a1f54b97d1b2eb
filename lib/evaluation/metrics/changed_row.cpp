#include "evaluation/metrics/changed_row.hpp"

#include <algorithm>
#include <cmath>

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/panel_product.hpp"
#include "evaluation/metrics/softmax_row.hpp"
#include "rotorquant/core/exponentials.hpp"

namespace rotorquant::evaluation {
namespace {

// Vectors summed in float32 before the sums join those in float64.
constexpr std::int64_t float_terms = 16;

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
      const FloatLanes g = second_order_exponential<FloatLanes, BitLanes>(x);
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
  return wide_divergence(shift, sum, exact.log_sum_exp, exact.scale * expected_error);
}

}  // namespace

double wide_divergence(double shift, double sum, double log_sum_exp, double expected_change) {
  const double divergence = shift + std::log(sum) - log_sum_exp - expected_change;
  return divergence < 0.0 ? 0.0 : divergence;  // a NaN stays one
}

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
