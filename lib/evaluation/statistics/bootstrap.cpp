#include "evaluation/statistics/bootstrap.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <mutex>
#include <numbers>
#include <tuple>
#include <utility>

#include "evaluation/statistics/summary.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr std::uint32_t mean_stream = 0;
constexpr std::uint32_t ratio_stream = 1;

double normal_cdf(double z) {
  return 0.5 * std::erfc(-z / std::numbers::sqrt2);
}

// How often each of `items` is drawn in each resample [resamples, items].
struct Resamples {
  std::int64_t items;
  std::uint64_t seed;
  std::uint32_t stream;
  int resamples;
  std::vector<std::int32_t> counts;
};

// The intervals of a report have as many seeds and draw the same resamples: the last ones are remembered.
std::shared_ptr<const Resamples> draw_resamples(std::int64_t items, std::uint64_t seed, std::uint32_t stream,
                                                int resamples) {
  constexpr std::size_t most_remembered = 4;
  static std::mutex mutex;
  static std::deque<std::shared_ptr<const Resamples>> remembered;
  const std::scoped_lock lock(mutex);
  for (const auto& known : remembered) {
    if (std::tie(known->items, known->seed, known->stream, known->resamples) ==
        std::tie(items, seed, stream, resamples))
      return known;
  }
  RandomStream random(seed, Purpose::bootstrap, stream);
  std::vector<std::int32_t> counts(static_cast<std::size_t>(resamples * items));
  for (std::int64_t resample = 0; resample < resamples; ++resample) {
    std::int32_t* row = counts.data() + resample * items;
    for (std::int64_t i = 0; i < items; ++i) ++row[random.integer(items)];
  }
  remembered.push_front(
      std::make_shared<const Resamples>(Resamples{items, seed, stream, resamples, std::move(counts)}));
  if (remembered.size() > most_remembered) remembered.pop_back();
  return remembered.front();
}

Interval percentile_interval(std::int64_t items, const WeightedStatistic& statistic, std::uint64_t seed,
                             std::uint32_t stream, int resamples) {
  const auto drawn = draw_resamples(items, seed, stream, resamples);
  const std::span<const std::int32_t> counts = drawn->counts;
  const auto size = static_cast<std::size_t>(items);
  std::vector<double> values;
  for (std::size_t begin = 0; begin < counts.size(); begin += size)
    values.push_back(statistic(counts.subspan(begin, size)));
  const auto n = static_cast<double>(items);
  const double tail = normal_cdf(-std::sqrt(n / (n - 1.0)) * student_t_quantile(items - 1));
  return {quantile(values, tail), quantile(values, 1.0 - tail)};
}

Interval jackknife_interval(std::int64_t items, const WeightedStatistic& statistic) {
  std::vector<std::int32_t> counts(static_cast<std::size_t>(items), 1);
  const double estimate = statistic(counts);
  std::vector<double> without;
  for (std::int32_t& count : counts) {
    count = 0;
    without.push_back(statistic(counts));
    count = 1;
  }
  const double standard_error =
      standard_deviation(without) * static_cast<double>(items - 1) / std::sqrt(static_cast<double>(items));
  const double reach = student_t_quantile(items - 1) * standard_error;
  return {estimate - reach, estimate + reach};
}

}  // namespace

Interval bootstrap_interval(std::int64_t items, const WeightedStatistic& statistic, std::uint64_t seed,
                            std::uint32_t stream, int resamples) {
  if (items < 2) throw Error(fmt::format("confidence interval of {} value; valid: 2 or more", items));
  if (items < min_bootstrap_values) return jackknife_interval(items, statistic);
  return percentile_interval(items, statistic, seed, stream, resamples);
}

Interval mean_interval(std::span<const double> differences, std::uint64_t seed, int resamples) {
  const auto statistic = [&](std::span<const std::int32_t> counts) {
    double sum = 0.0;
    double total = 0.0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      sum += counts[i] * differences[i];
      total += counts[i];
    }
    return sum / total;
  };
  return bootstrap_interval(static_cast<std::int64_t>(differences.size()), statistic, seed, mean_stream,
                            resamples);
}

double geometric_mean_ratio(const LossTable& candidate, const LossTable& baseline,
                            std::span<const std::int32_t> counts) {
  // One logarithm for the product of several ratios, as long as it is far from the ends of float64.
  constexpr double most = 1e150;
  double logs = 0.0;
  double product = 1.0;
  for (std::int64_t cell = 0; cell < candidate.cells; ++cell) {
    double candidate_sum = 0.0;
    double baseline_sum = 0.0;
    for (std::int64_t seed = 0; seed < candidate.seeds; ++seed) {
      const double count = counts.empty() ? 1.0 : counts[static_cast<std::size_t>(seed)];
      candidate_sum += count * candidate.at(seed, cell);
      baseline_sum += count * baseline.at(seed, cell);
    }
    const double ratio = candidate_sum / baseline_sum;
    if (ratio > 1.0 / most && ratio < most) {
      product *= ratio;
    } else {
      logs += std::log(ratio);
    }
    if (product < 1.0 / most || product > most) {
      logs += std::log(product);
      product = 1.0;
    }
  }
  return std::exp((logs + std::log(product)) / static_cast<double>(candidate.cells));
}

Interval geometric_mean_ratio_interval(const LossTable& candidate, const LossTable& baseline,
                                       std::uint64_t seed, int resamples) {
  // On the scale of logarithms, where a ratio and its inverse are alike and Student's interval stays
  // positive.
  const auto statistic = [&](std::span<const std::int32_t> counts) {
    return std::log(geometric_mean_ratio(candidate, baseline, counts));
  };
  const Interval logs = bootstrap_interval(candidate.seeds, statistic, seed, ratio_stream, resamples);
  return {std::exp(logs.low), std::exp(logs.high)};
}

double student_t_quantile(std::int64_t degrees) {
  static_assert(confidence_level == 0.95);
  constexpr double exact[] = {12.706204736, 4.302652730, 3.182446305, 2.776445105};
  if (degrees <= 4) return exact[degrees - 1];
  // Expansion about the normal quantile in 1 / degrees (Abramowitz and Stegun 26.7.5), within 3e-4 from five
  // degrees on.
  constexpr double z = 1.959963984540054;
  constexpr double z2 = z * z;
  constexpr double g1 = z * (z2 + 1.0) / 4.0;
  constexpr double g2 = z * ((5.0 * z2 + 16.0) * z2 + 3.0) / 96.0;
  constexpr double g3 = z * (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) / 384.0;
  constexpr double g4 = z * ((((79.0 * z2 + 776.0) * z2 + 1482.0) * z2 - 1920.0) * z2 - 945.0) / 92160.0;
  const auto n = static_cast<double>(degrees);
  return z + (g1 + (g2 + (g3 + g4 / n) / n) / n) / n;
}

}  // namespace rotorquant::evaluation
