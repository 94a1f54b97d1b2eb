#pragma once
// 95% confidence intervals over seeds, for paired measurements.
//
// A statistic is a function of how often each seed is drawn. With eight seeds or more: the percentile
// bootstrap (Efron 1979) with its level widened by Student's t, as Hesterberg ("What teachers should know
// about the bootstrap", American Statistician 69, 2015, section 3.3) proposes: the plain percentile
// interval of ten values covers the truth in 90% of cases, not 95, since resamples have the sample's own
// variance and normal, not t, quantiles; BCa mends skewness and not this. Fewer seeds cannot: no percentile
// exceeds the sample's own minimum and maximum, which miss the truth with probability 2^(1-n), 6% at n = 5.
// There the interval is Student's t around the estimate with the jackknife's standard error (Tukey 1958),
// exact for means of normal values. Measured coverage of normal values: 95% at n = 2, 3, 5 and from 8 on;
// of strongly skewed ones (lognormal, sigma = 0.5) 91 to 94%.
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace rotorquant::evaluation {

inline constexpr double confidence_level = 0.95;
// The interval's ends then move by about 2% of its width from one bootstrap seed to another.
inline constexpr int bootstrap_resamples = 10000;
// Below this many values the interval is Student's t.
inline constexpr std::int64_t min_bootstrap_values = 8;

struct Interval {
  double low = 0.0;
  double high = 0.0;

  bool contains(double value) const { return low <= value && value <= high; }
};

// Value of the statistic when item i is drawn counts[i] times; the counts add up to at least 1.
using WeightedStatistic = std::function<double(std::span<const std::int32_t> counts)>;

// Interval of `statistic` over `items` >= 2 items. `stream` keeps intervals computed with one seed
// independent.
Interval bootstrap_interval(std::int64_t items, const WeightedStatistic& statistic, std::uint64_t seed = 0,
                            std::uint32_t stream = 0, int resamples = bootstrap_resamples);

// Of the mean; differences [n], n >= 2, one per seed.
Interval mean_interval(std::span<const double> differences, std::uint64_t seed = 0,
                       int resamples = bootstrap_resamples);

// A loss for every seed and cell, [seeds, cells] row-major.
struct LossTable {
  std::int64_t seeds = 0;
  std::int64_t cells = 0;
  std::vector<double> losses;

  double at(std::int64_t seed, std::int64_t cell) const {
    return losses[static_cast<std::size_t>(seed * cells + cell)];
  }
};

// Geometric mean over cells of mean(candidate) / mean(baseline), means over seeds drawn counts[i] times;
// empty counts: once each. Positive losses; tables of equal shape.
double geometric_mean_ratio(const LossTable& candidate, const LossTable& baseline,
                            std::span<const std::int32_t> counts = {});

// Its interval over seeds, seeds >= 2. Both sides draw the same seeds.
Interval geometric_mean_ratio_interval(const LossTable& candidate, const LossTable& baseline,
                                       std::uint64_t seed = 0, int resamples = bootstrap_resamples);

// Quantile (1 + confidence_level) / 2 of Student's t with `degrees` >= 1 degrees of freedom.
double student_t_quantile(std::int64_t degrees);

}  // namespace rotorquant::evaluation
