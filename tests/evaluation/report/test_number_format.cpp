#include <gtest/gtest.h>

#include "evaluation/report/number_format.hpp"

namespace rotorquant::evaluation {
namespace {

TEST(NumberFormat, ThreeDigitsForTheSmallestMagnitude) {
  const NumberFormat format = choose_format({0.36338, 0.11748, 0.03454, 0.009501}, NumberKind::magnitude);
  EXPECT_EQ(format.decimals, 5);
  EXPECT_EQ(format.write(0.36338), "0.36338");
  EXPECT_EQ(format.write(0.009501), "0.00950");
  EXPECT_EQ(format.write_spread(1e-9), "0.00000");
}

TEST(NumberFormat, AnOutlierDoesNotStretchTheColumn) {
  const NumberFormat format = choose_format({0.4, 8.21e-8, 0.0}, NumberKind::magnitude);
  EXPECT_EQ(format.write(0.4), "0.400000");
  EXPECT_EQ(format.write(8.21e-8), "8.2e-08");
  EXPECT_EQ(format.write(0.0), "0.000000");
}

TEST(NumberFormat, DeviationsFromZeroFollowTheLargest) {
  const NumberFormat format = choose_format({-0.0123, 1e-7, 0.002}, NumberKind::near_zero);
  EXPECT_EQ(format.write(-0.0123), "-0.0123");
  EXPECT_EQ(format.write(1e-7), "0.0000");
  EXPECT_EQ(format.write(-1e-7), "0.0000");
}

TEST(NumberFormat, AgreementsShowTheirDistanceFromOne) {
  const NumberFormat format = choose_format({0.95, 0.99962, 1.0}, NumberKind::near_one);
  EXPECT_EQ(format.write(0.99962), "0.99962");
  EXPECT_EQ(format.write(0.95), "0.95000");
  EXPECT_EQ(choose_format({0.5, 0.75}, NumberKind::near_one).write(0.5), "0.500");
  EXPECT_EQ(choose_format({1.0, 1.0 - 1e-9}, NumberKind::near_one).decimals, 5);
}

TEST(NumberFormat, LargeNumbersAreScaled) {
  const NumberFormat format = choose_format({2.5e6, 31.25e6}, NumberKind::magnitude);
  EXPECT_EQ(format.scale, 1e6);
  EXPECT_EQ(format.write(2.5e6), "2.50");
  EXPECT_EQ(format.write(31.25e6), "31.25");
  EXPECT_EQ(choose_format({2.5e6, 0.5}, NumberKind::magnitude).scale, 1.0);
}

TEST(NumberFormat, NothingToShow) {
  EXPECT_EQ(choose_format({}, NumberKind::magnitude).write(0.0), "0");
  EXPECT_EQ(choose_format({0.0}, NumberKind::near_zero).write(0.0), "0");
}

TEST(NumberFormat, SizesAreExact) {
  EXPECT_EQ(choose_size_format({3.25, 3.5}).write(3.5), "3.50");
  EXPECT_EQ(choose_size_format({3.375}).write(3.375), "3.375");
  EXPECT_EQ(choose_size_format({10.0 / 3.0}).write(10.0 / 3.0), "3.3333");
}

}  // namespace
}  // namespace rotorquant::evaluation
