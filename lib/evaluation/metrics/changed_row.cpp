#include "evaluation/metrics/changed_row.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/ordered_sums.hpp"
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
  void add_product(const FloatLanes& a, const FloatLanes& b) { part_ = multiply_add(a, b, part_); }
  void carry() {
    low_ += widen(lower(part_));
    high_ += widen(upper(part_));
    part_ = FloatLanes{};
  }
  Lanes lanes() const { return low_ + high_; }

 private:
  FloatLanes part_ = {};
  Lanes low_ = {};
  Lanes high_ = {};
};

#if defined(__AVX2__) && !defined(__AVX512F__)
// The places of a byte's bits that are 1, a byte each, the lowest first.
constexpr std::array<long long, 256> set_bits = [] {
  std::array<long long, 256> words{};
  for (unsigned byte = 0; byte < words.size(); ++byte) {
    int count = 0;
    for (long long place = 0; place < 8; ++place) {
      if ((byte >> place & 1U) != 0) words[byte] |= place << (8 * count++);
    }
  }
  return words;
}();
#endif

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
#elif defined(__AVX2__)
  const __m256 least = _mm256_set1_ps(weakest);
  const auto low = static_cast<unsigned>(
      _mm256_movemask_ps(_mm256_cmp_ps(reinterpret_cast<__m256>(scores.low), least, _CMP_GE_OQ)));
  const auto high = static_cast<unsigned>(
      _mm256_movemask_ps(_mm256_cmp_ps(reinterpret_cast<__m256>(scores.high), least, _CMP_GE_OQ)));
  const auto append = [&](unsigned reach, std::int64_t first, std::int32_t* to) {
    const __m256i own = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(set_bits[reach]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_add_epi32(own, _mm256_set1_epi32(static_cast<std::int32_t>(first))));
    return std::popcount(reach);
  };
  const int count = append(low, begin, places);
  return count + append(high, begin + 8, places + count);
#else
  std::int64_t count = 0;
  for (std::int64_t lane = 0; lane < float_lane_count; ++lane) {
    places[count] = static_cast<std::int32_t>(begin + lane);
    count += scores[lane] >= weakest ? 1 : 0;
  }
  return count;
#endif
}

// Rows that go through each pass together, so that what a row waits for at the end of a pass (its lanes are
// added one after another, then come logarithms and quotients) overlaps with other rows' work. They stay in a
// first-level cache.
constexpr std::int64_t rows_at_once = 4;

struct ErrorLanes {
  Lanes sums[4];  // as in RowSums
  FloatLanes least;
  FloatLanes most;
};

struct ErrorRange {
  float least;
  float most;
};

// What row sums are made of, the range of errors, and where t + e reaches the weakest of the row's largest
// scores. Returns how many places were written.
std::int64_t sum_errors(const ExactRow& exact, const float* errors, float weakest, std::int32_t* reaching,
                        ErrorLanes& out) {
  const auto mean = static_cast<float>(exact.mean_product);
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
      least = choose(error < least, error, least);
      most = choose(error > most, error, most);
      error_sum.add(error);
      squares.add_product(error, error);
      error_truth.add_product(error, truth - mean);
      expected.add_product(load_lanes(exact.probabilities + j), error);
    }
    error_sum.carry();
    squares.carry();
    error_truth.carry();
    expected.carry();
  }
  out = {{error_sum.lanes(), squares.lanes(), error_truth.lanes(), expected.lanes()}, least, most};
  return num_reaching;
}

// The sums of at most rows_at_once rows, two rows at a time.
void sum_rows(const ErrorLanes* lanes, std::size_t rows, RowChange* changes) {
  for (std::size_t r = 0; r < rows; r += 2) {
    const std::size_t other = std::min(r + 1, rows - 1);
    Lanes parts[lane_count];
    for (std::size_t i = 0; i < 4; ++i) {
      parts[i] = lanes[r].sums[i];
      parts[4 + i] = lanes[other].sums[i];
    }
    const Lanes sums = ordered_sums(parts);
    changes[r].sums = {sums[0], sums[1], sums[2], sums[3]};
    changes[other].sums = {sums[4], sums[5], sums[6], sums[7]};
  }
}

ErrorRange range_of(const ErrorLanes& lanes) {
  ErrorRange range = {lanes.least[0], lanes.most[0]};
  for (std::int64_t lane = 1; lane < float_lane_count; ++lane) {
    range.least = std::min(range.least, lanes.least[lane]);
    range.most = std::max(range.most, lanes.most[lane]);
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

// errors: e -> p (x + g(x)). Returns the lanes of G.
Lanes weigh_changes(const ExactRow& exact, double expected_error, const ExactRow& next, float* errors) {
  const auto scale = static_cast<float>(exact.scale);
  const auto mean = static_cast<float>(expected_error);
  LaneSum second_order;
  for (std::int64_t begin = 0; begin < exact.visible; begin += float_terms * float_lane_count) {
    const std::int64_t end = std::min(begin + float_terms * float_lane_count, exact.visible);
    for (std::int64_t j = begin; j < end; j += float_lane_count) {
      __builtin_prefetch(next.products + j);
      __builtin_prefetch(next.probabilities + j);
      const FloatLanes x = scale * (load_lanes(errors + j) - mean);
      const FloatLanes probability = load_lanes(exact.probabilities + j);
      const FloatLanes g = second_order_exponential<FloatLanes, BitLanes>(x);
      second_order.add_product(probability, g);
      store_lanes(errors + j, probability * (x + g));
    }
    second_order.carry();
  }
  return second_order.lanes();
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

// change_rows for at most rows_at_once rows.
void change_together(std::span<const ExactRow> rows, std::span<const ExactRow> next, float* errors,
                     std::int64_t stride, RowChange* changes, ChangeWorkspace& workspace) {
  const auto each = [&](const auto& body) {
    for (std::size_t r = 0; r < rows.size(); ++r)
      body(r, rows[r], errors + static_cast<std::int64_t>(r) * stride, changes[r]);
  };
  std::int64_t longest = 0;
  for (const ExactRow& row : rows) longest = std::max(longest, round_up(row.visible, float_lane_count));
  const std::int64_t room = longest + float_lane_count;
  workspace.reaching.reserve(rows_at_once * room);
  ErrorLanes lanes[rows_at_once];
  each([&](std::size_t r, const ExactRow& row, float* row_errors, RowChange& change) {
    std::fill(row_errors + row.visible, row_errors + round_up(row.visible, float_lane_count), 0.0F);
    std::int32_t* reaching = workspace.reaching.data() + static_cast<std::int64_t>(r) * room;
    TopRanks<float> ranks(*row.top, [&](std::int32_t key) { return row.products[key] + row_errors[key]; });
    const std::int64_t num_reaching = sum_errors(row, row_errors, ranks.weakest(), reaching, lanes[r]);
    // What is beyond the visible keys comes last.
    for (std::int64_t i = 0; i < num_reaching && reaching[i] < row.visible; ++i)
      ranks.add(row.products[reaching[i]] + row_errors[reaching[i]], reaching[i]);
    change.overlap = ranks.overlap();
  });
  sum_rows(lanes, rows.size(), changes);
  bool narrow[rows_at_once];
  each([&](std::size_t r, const ExactRow& row, float*, RowChange& change) {
    narrow[r] = is_narrow(row, range_of(lanes[r]), change.sums.expected_error);
  });
  Lanes second_order_lanes[lane_count] = {};
  each([&](std::size_t r, const ExactRow& row, float* row_errors, RowChange& change) {
    if (narrow[r]) {
      second_order_lanes[r] =
          weigh_changes(row, change.sums.expected_error, r < next.size() ? next[r] : row, row_errors);
    } else {
      change.divergence = change_widely(row, change.sums.expected_error, row_errors, workspace.wide);
    }
  });
  const Lanes second_orders = ordered_sums(second_order_lanes);
  float shift[rows_at_once];
  float inverse[rows_at_once];
  each([&](std::size_t r, const ExactRow&, float*, RowChange& change) {
    if (!narrow[r]) return;
    const double second_order = second_orders[r];
    change.divergence = std::log1p(second_order);
    shift[r] = static_cast<float>(second_order);
    inverse[r] = static_cast<float>(1.0 / (1.0 + second_order));
  });
  each([&](std::size_t r, const ExactRow& row, float* row_errors, RowChange&) {
    if (!narrow[r]) return;
    for (std::int64_t j = 0; j < row.visible; j += float_lane_count) {
      const FloatLanes probability = load_lanes(row.probabilities + j);
      store_lanes(row_errors + j,
                  multiply_add(probability, -shift[r], load_lanes(row_errors + j)) * inverse[r]);
    }
  });
}

}  // namespace

double wide_divergence(double shift, double sum, double log_sum_exp, double expected_change) {
  const double divergence = shift + std::log(sum) - log_sum_exp - expected_change;
  return divergence < 0.0 ? 0.0 : divergence;  // a NaN stays one
}

void change_rows(std::span<const ExactRow> rows, float* errors, std::int64_t stride, RowChange* changes,
                 ChangeWorkspace& workspace) {
  for (std::size_t begin = 0; begin < rows.size(); begin += rows_at_once) {
    const std::size_t count = std::min<std::size_t>(rows_at_once, rows.size() - begin);
    const std::span<const ExactRow> next = rows.subspan(begin + count);
    change_together(rows.subspan(begin, count), next, errors + static_cast<std::int64_t>(begin) * stride,
                    stride, changes + begin, workspace);
  }
}

}  // namespace rotorquant::evaluation
