#include "evaluation/statistics/summary.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

namespace rotorquant::evaluation {
namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

}  // namespace

double mean(std::span<const double> sample) {
  if (sample.empty()) return undefined;
  return std::accumulate(sample.begin(), sample.end(), 0.0) / static_cast<double>(sample.size());
}

double standard_deviation(std::span<const double> sample) {
  if (sample.empty()) return undefined;
  // Equal values have none, whatever the rounding of their mean.
  if (std::ranges::all_of(sample, [&](double value) { return value == sample.front(); })) return 0.0;
  const double center = mean(sample);
  double spread = 0.0;
  for (const double value : sample) spread += (value - center) * (value - center);
  return std::sqrt(spread / static_cast<double>(sample.size() - 1));
}

double quantile(std::span<const double> sample, double probability) {
  if (sample.empty()) return undefined;
  std::vector<double> values(sample.begin(), sample.end());
  const double place = probability * static_cast<double>(values.size() - 1);
  const double below = std::floor(place);
  const auto lower = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), lower, values.end());
  const auto upper = lower + 1 == values.end() ? lower : std::min_element(lower + 1, values.end());
  return *lower + (place - below) * (*upper - *lower);
}

double geometric_mean(std::span<const double> sample) {
  if (sample.empty()) return undefined;
  double logs = 0.0;
  for (const double value : sample) logs += std::log(value);
  return std::exp(logs / static_cast<double>(sample.size()));
}

}  // namespace rotorquant::evaluation
