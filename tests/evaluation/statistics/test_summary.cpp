#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "evaluation/statistics/summary.hpp"

namespace rotorquant::evaluation {
namespace {

TEST(Summary, ByHand) {
  const std::vector<double> sample = {4.0, 1.0, 2.0, 9.0};
  EXPECT_DOUBLE_EQ(mean(sample), 4.0);
  EXPECT_DOUBLE_EQ(standard_deviation(sample), std::sqrt(38.0 / 3.0));
  EXPECT_DOUBLE_EQ(quantile(sample, 0.0), 1.0);
  EXPECT_DOUBLE_EQ(quantile(sample, 0.5), 3.0);
  EXPECT_DOUBLE_EQ(quantile(sample, 0.9), 7.5);  // 0.7 of the way from 4 to 9
  EXPECT_DOUBLE_EQ(quantile(sample, 1.0), 9.0);
  EXPECT_NEAR(geometric_mean(sample), std::pow(72.0, 0.25), 1e-14);
}

TEST(Summary, OneValue) {
  const std::vector<double> sample = {3.0};
  EXPECT_EQ(mean(sample), 3.0);
  EXPECT_EQ(standard_deviation(sample), 0.0);
  EXPECT_EQ(quantile(sample, 0.3), 3.0);
  EXPECT_NEAR(geometric_mean(sample), 3.0, 1e-15);
}

TEST(Summary, WhatIsUndefinedIsNaN) {
  EXPECT_TRUE(std::isnan(mean({})));
  EXPECT_TRUE(std::isnan(standard_deviation({})));
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
  EXPECT_TRUE(std::isnan(geometric_mean({})));
  EXPECT_TRUE(std::isnan(geometric_mean(std::vector<double>{1.0, -1.0})));
  EXPECT_EQ(geometric_mean(std::vector<double>{1.0, 0.0}), 0.0);
}

// Two-pass sums: the spread of large, close numbers survives.
TEST(Summary, DeviationOfLargeNumbers) {
  const std::vector<double> sample = {1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0};
  EXPECT_NEAR(standard_deviation(sample), 1.0, 1e-9);
}

}  // namespace
}  // namespace rotorquant::evaluation
