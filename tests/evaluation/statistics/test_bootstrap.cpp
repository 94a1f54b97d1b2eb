#include <gtest/gtest.h>

#include <cmath>

#include "evaluation/statistics/bootstrap.hpp"
#include "evaluation/statistics/summary.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation {
namespace {

// Enough for coverage, which averages over trials; reports use bootstrap_resamples.
constexpr int trial_resamples = 1000;
constexpr int trials = 1500;
// Four standard errors of a share of 95% over the trials, and 2 points for what the method itself may be off.
constexpr double coverage_tolerance = 4.0 * 0.0056 + 0.02;

std::vector<double> normals(RandomStream& random, std::int64_t count, double center, double deviation) {
  std::vector<double> sample(static_cast<std::size_t>(count));
  for (double& value : sample) value = center + deviation * random.normal();
  return sample;
}

TEST(StudentT, MatchesTables) {
  const std::vector<std::pair<std::int64_t, double>> table = {
      {1, 12.7062}, {2, 4.30265}, {3, 3.18245},  {4, 2.77645},  {5, 2.57058},
      {6, 2.44691}, {9, 2.26216}, {19, 2.09302}, {99, 1.98422}, {1000000, 1.95996}};
  for (const auto& [degrees, expected] : table)
    EXPECT_NEAR(student_t_quantile(degrees), expected, 4e-4) << degrees;
}

class MeanIntervalCoverage : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(MeanIntervalCoverage, IsNear95Percent) {
  constexpr double truth = 0.7;
  int covered = 0;
  for (int trial = 0; trial < trials; ++trial) {
    RandomStream random(static_cast<std::uint64_t>(trial), Purpose::synthetic,
                        static_cast<std::uint32_t>(GetParam()));
    const std::vector<double> sample = normals(random, GetParam(), truth, 2.0);
    covered +=
        mean_interval(sample, static_cast<std::uint64_t>(trial), trial_resamples).contains(truth) ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(covered) / trials, confidence_level, coverage_tolerance);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MeanIntervalCoverage, ::testing::Values(2, 3, 7, 8, 10, 30));

// What the widened level is for: the plain percentile interval of ten values misses the truth twice as
// often as it claims.
TEST(MeanInterval, IsWiderThanThePlainPercentileOfFewValues) {
  RandomStream random(1, Purpose::synthetic);
  const std::vector<double> sample = normals(random, 10, 0.0, 1.0);
  const Interval interval = mean_interval(sample);
  const double student = 2.0 * 2.262 * standard_deviation(sample) / std::sqrt(10.0);
  const double plain = 2.0 * 1.960 * standard_deviation(sample) * std::sqrt(0.9) / std::sqrt(10.0);
  EXPECT_GT(interval.high - interval.low, 1.1 * plain);
  EXPECT_NEAR(interval.high - interval.low, student, 0.15 * student);
}

TEST(MeanInterval, OfThreeValuesIsStudents) {
  const std::vector<double> sample = {1.0, 2.0, 6.0};
  const double reach = 4.302652730 * std::sqrt(7.0) / std::sqrt(3.0);
  const Interval interval = mean_interval(sample);
  EXPECT_NEAR(interval.low, 3.0 - reach, 1e-8);
  EXPECT_NEAR(interval.high, 3.0 + reach, 1e-8);
}

TEST(MeanInterval, IsDeterministicAndDependsOnItsSeed) {
  RandomStream random(3, Purpose::synthetic);
  const std::vector<double> sample = normals(random, 10, 0.0, 1.0);
  const Interval first = mean_interval(sample, 1);
  const Interval again = mean_interval(sample, 1);
  const Interval other = mean_interval(sample, 2);
  EXPECT_EQ(first.low, again.low);
  EXPECT_EQ(first.high, again.high);
  EXPECT_NE(first.low, other.low);
  EXPECT_NEAR(first.low, other.low, 0.05 * (first.high - first.low));
}

TEST(MeanInterval, OfEqualValuesIsAPoint) {
  for (const std::size_t count : {2, 10}) {
    const Interval interval = mean_interval(std::vector<double>(count, 0.25));
    EXPECT_NEAR(interval.low, 0.25, 1e-15);
    EXPECT_NEAR(interval.high, 0.25, 1e-15);
  }
}

TEST(MeanInterval, OneValueHasNone) {
  EXPECT_THROW(mean_interval(std::vector<double>{1.0}), Error);
}

TEST(GeometricMeanRatio, ByHand) {
  // Cell 0: (1 + 3) / (4 + 4); cell 1: (8 + 8) / (1 + 3).
  const LossTable candidate{2, 2, {1.0, 8.0, 3.0, 8.0}};
  const LossTable baseline{2, 2, {4.0, 1.0, 4.0, 3.0}};
  EXPECT_NEAR(geometric_mean_ratio(candidate, baseline), std::sqrt(0.5 * 4.0), 1e-14);
  const std::vector<std::int32_t> first_only = {2, 0};
  EXPECT_NEAR(geometric_mean_ratio(candidate, baseline, first_only), std::sqrt(0.25 * 8.0), 1e-14);
  EXPECT_NEAR(geometric_mean_ratio(baseline, candidate), 1.0 / std::sqrt(2.0), 1e-14);
}

TEST(GeometricMeanRatio, IntervalCoversTheTruth) {
  constexpr double truth = 0.8;
  for (const std::int64_t seeds : {4, 10}) {
    int covered = 0;
    for (int trial = 0; trial < trials; ++trial) {
      RandomStream random(static_cast<std::uint64_t>(trial), Purpose::synthetic,
                          100 + static_cast<std::uint32_t>(seeds));
      LossTable candidate{seeds, 3, {}};
      LossTable baseline{seeds, 3, {}};
      for (std::int64_t i = 0; i < seeds * 3; ++i) {
        // The noise has mean 1, so that the ratio of expectations is known; cells differ in size by powers
        // of ten.
        const double size = std::pow(10.0, static_cast<double>(i % 3));
        candidate.losses.push_back(truth * size * (1.0 + 0.1 * random.normal()));
        baseline.losses.push_back(size * (1.0 + 0.1 * random.normal()));
      }
      covered += geometric_mean_ratio_interval(candidate, baseline, static_cast<std::uint64_t>(trial),
                                               trial_resamples)
                     .contains(truth);
    }
    EXPECT_NEAR(static_cast<double>(covered) / trials, confidence_level, coverage_tolerance) << seeds;
  }
}

// Seeds are paired: what both sides share cancels.
TEST(GeometricMeanRatio, CommonSeedEffectsCancel) {
  LossTable candidate{10, 1, {}};
  LossTable baseline{10, 1, {}};
  RandomStream random(7, Purpose::synthetic);
  for (int seed = 0; seed < 10; ++seed) {
    const double shared = std::exp(random.normal());
    candidate.losses.push_back(0.9 * shared);
    baseline.losses.push_back(shared);
  }
  const Interval interval = geometric_mean_ratio_interval(candidate, baseline);
  EXPECT_NEAR(interval.low, 0.9, 1e-12);
  EXPECT_NEAR(interval.high, 0.9, 1e-12);
}

}  // namespace
}  // namespace rotorquant::evaluation
