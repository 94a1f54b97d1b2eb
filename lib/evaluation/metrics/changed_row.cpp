#include "evaluation/metrics/changed_row.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/panel_product.hpp"
#include "evaluation/metrics/softmax_row.hpp"
#include "evaluation/metrics/top_ranks.hpp"
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

// Appends the places begin + i of those of sixteen scores that reach `weakest`, without branches, which could
// not be predicted. Writes sixteen; returns how many count.
inline std::int64_t append_reaching(const FloatLanes& scores, float weakest, std::int64_t begin,
                                    std::int32_t* places) {
#if defined(__AVX512F__)
  const __mmask16 reach =
      _mm512_cmp_ps_mask(reinterpret_cast<__m512>(scores), _mm512_set1_ps(weakest), _CMP_GE_OQ);
  const __m512i index =
      _mm512_add_epi32(_mm512_set1_epi32(static_cast<std::int32_t>(begin)),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  _mm512_storeu_si512(places, _mm512_maskz_compress_epi32(reach, index));
  return std::popcount(reach);
#else
  std::int64_t count = 0;
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane) {
    places[count] = static_cast<std::int32_t>(begin + lane);
    count += scores[lane] >= weakest ? 1 : 0;
  }
  return count;
#endif
}

struct ErrorRange {
  float least;
  float most;
};

// The row's sums, the range of its errors, and what of its largest scores is left in t + e.
ErrorRange sum_errors(const ExactRow& exact, const float* errors, std::int32_t* reaching, RowChange& change) {
  const auto mean = static_cast<float>(exact.mean_product);
  TopRanks<float> ranks(*exact.top, [&](std::int32_t key) { return exact.products[key] + errors[key]; });
  const float weakest = ranks.weakest();
  std::int64_t num_reaching = 0;
  FloatLanes least = std::numeric_limits<float>::infinity() + FloatLanes{};
  FloatLanes most = -least;
  LaneSum error_sum;
  LaneSum squares;
  LaneSum error_truth;
  LaneSum expected;
  for (std::int64_t begin = 0; begin < exact.visible; begin += float_terms * float_lane_count) {
    const std::int64_t end = std::min(begin + float_terms * float_lane_count, exact.visible);
    for (std::int64_t j = begin; j < end; j += float_lane_count) {
      const FloatLanes error = load_lanes(errors + j);
      const FloatLanes truth = load_lanes(exact.products + j);
      num_reaching += append_reaching(truth + error, weakest, j, reaching + num_reaching);
      least = error < least ? error : least;
      most = error > most ? error : most;
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
  // What is beyond the visible keys comes last.
  for (std::int64_t i = 0; i < num_reaching && reaching[i] < exact.visible; ++i)
    ranks.add(exact.products[reaching[i]] + errors[reaching[i]], reaching[i]);
  change.overlap = ranks.overlap();
  change.sums = {.error = error_sum.total(),
                 .squared_error = squares.total(),
                 .error_truth = error_truth.total(),
                 .expected_error = expected.total()};
  ErrorRange range = {least[0], most[0]};
  for (std::int64_t lane = 1; lane < float_lane_count; ++lane) {
    range.least = std::min(range.least, least[lane]);
    range.most = std::max(range.most, most[lane]);
  }
  return range;
}

// Rounding keeps order: no error changes a score by more than one of the range's ends. False for a NaN.
bool is_narrow(const ExactRow& exact, const ErrorRange& range, double expected_error) {
  const auto scale = static_cast<float>(exact.scale);
  const auto mean = static_cast<float>(expected_error);
  return std::abs(scale * (range.least - mean)) <= largest_change &&
         std::abs(scale * (range.most - mean)) <= largest_change;
}

// errors: e -> p (x + g(x)). Returns G.
double weigh_changes(const ExactRow& exact, double expected_error, float* errors) {
  const auto scale = static_cast<float>(exact.scale);
  const auto mean = static_cast<float>(expected_error);
  LaneSum second_order;
  for (std::int64_t begin = 0; begin < exact.visible; begin += float_terms * float_lane_count) {
    const std::int64_t end = std::min(begin + float_terms * float_lane_count, exact.visible);
    for (std::int64_t j = begin; j < end; j += float_lane_count) {
      // Rows follow one another in memory: the next one's arrives while this one's exponentials are computed.
      __builtin_prefetch(exact.products + exact.stride + j);
      __builtin_prefetch(exact.probabilities + exact.stride + j);
      const FloatLanes x = scale * (load_lanes(errors + j) - mean);
      const FloatLanes probability = load_lanes(exact.probabilities + j);
      const FloatLanes g = second_order_exponential<FloatLanes, BitLanes>(x);
      second_order.add(probability * g);
      store_lanes(errors + j, probability * (x + g));
    }
    second_order.carry();
  }
  return second_order.total();
}

// The same in float64, from t + e. Returns the divergence.
double change_widely(const ExactRow& exact, double expected_error, float* errors, AlignedBuffer& wide) {
  wide.reserve(round_up(exact.visible, lane_count));
  double* powers = wide.data();
  for (std::int64_t j = 0; j < exact.visible; ++j)
    powers[j] = static_cast<double>(exact.products[j] + errors[j]);
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

RowChange change_row(const ExactRow& exact, float* errors, ChangeWorkspace& workspace) {
  const std::int64_t padded = round_up(exact.visible, float_lane_count);
  std::fill(errors + exact.visible, errors + padded, 0.0F);
  workspace.reaching.reserve(padded + float_lane_count);
  RowChange change;
  const ErrorRange range = sum_errors(exact, errors, workspace.reaching.data(), change);
  if (!is_narrow(exact, range, change.sums.expected_error)) {
    change.divergence = change_widely(exact, change.sums.expected_error, errors, workspace.wide);
    return change;
  }
  const double second_order = weigh_changes(exact, change.sums.expected_error, errors);
  change.divergence = std::log1p(second_order);
  const auto shift = static_cast<float>(second_order);
  const auto inverse = static_cast<float>(1.0 / (1.0 + second_order));
  for (std::int64_t j = 0; j < padded; j += float_lane_count) {
    store_lanes(errors + j, (load_lanes(errors + j) - shift * load_lanes(exact.probabilities + j)) * inverse);
  }
  return change;
}

}  // namespace rotorquant::evaluation
