#include <gtest/gtest.h>

#include <cmath>

#include "evaluation/statistics/rate_curve.hpp"

namespace rotorquant::evaluation {
namespace {

using Points = std::vector<RatePoint>;

TEST(LossAt, IsLinearInTheLogarithmBetweenPoints) {
  const Points points = {{4.0, 0.01}, {2.0, 1.0}};  // in any order
  EXPECT_DOUBLE_EQ(*loss_at(points, 2.0), 1.0);
  EXPECT_NEAR(*loss_at(points, 3.0), 0.1, 1e-15);
  EXPECT_NEAR(*loss_at(points, 3.5), std::pow(10.0, -1.5), 1e-15);
  EXPECT_DOUBLE_EQ(*loss_at(points, 4.0), 0.01);
}

TEST(LossAt, UsesTheNearestPointsOnEitherSide) {
  const Points points = {{2.0, 1.0}, {3.0, 0.5}, {4.0, 0.01}};
  EXPECT_NEAR(*loss_at(points, 2.5), std::sqrt(0.5), 1e-15);
  EXPECT_NEAR(*loss_at(points, 3.5), std::sqrt(0.005), 1e-15);
}

TEST(LossAt, IsLinearWhereALossIsZero) {
  EXPECT_DOUBLE_EQ(*loss_at(Points{{2.0, 1.0}, {4.0, 0.0}}, 3.0), 0.5);
}

TEST(LossAt, DoesNotExtrapolate) {
  EXPECT_FALSE(loss_at(Points{{2.0, 1.0}, {4.0, 0.1}}, 1.9));
  EXPECT_FALSE(loss_at(Points{{2.0, 1.0}, {4.0, 0.1}}, 4.1));
  EXPECT_FALSE(loss_at(Points{}, 3.0));
  EXPECT_DOUBLE_EQ(*loss_at(Points{{4.5, 0.2}}, 4.5), 0.2);  // a format of one width
}

TEST(LossAt, TakesTheBestOfOneSize) {
  EXPECT_DOUBLE_EQ(*loss_at(Points{{3.0, 0.4}, {3.0, 0.2}, {3.0, 0.3}}, 3.0), 0.2);
}

TEST(OnFront, IsWhatNoOtherBeats) {
  const Points points = {{2.0, 1.0}, {3.0, 0.5}, {3.5, 0.6}, {4.0, 0.1}, {2.0, 1.0}};
  EXPECT_TRUE(on_front(points[0], points));  // its twin does not beat it
  EXPECT_TRUE(on_front(points[1], points));
  EXPECT_FALSE(on_front(points[2], points));
  EXPECT_TRUE(on_front(points[3], points));
}

}  // namespace
}  // namespace rotorquant::evaluation
