#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <vector>

#include "rotorquant/cache/rope.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

// float32 angles, one multiplication and one addition a coordinate.
constexpr double tolerance = 1e-6;

std::vector<float> random_rows(std::int64_t count) {
  RandomStream random(1, Purpose::synthetic);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

class RopeLayouts : public testing::TestWithParam<RopeLayout> {};

// Pair j is a complex number that the embedding multiplies by e^(i position inv_freq[j]).
TEST_P(RopeLayouts, TurnsPairsAsComplexNumbers) {
  constexpr std::int64_t dim = 10;  // the last two coordinates lie beyond rotary_dim
  const Rope rope{{1.0, 0.3, 0.05, 0.001}, GetParam()};
  const std::vector<std::int64_t> positions = {0, 1, 77, 100000};
  const std::vector<float> x = random_rows(4 * dim);
  std::vector<float> y = x;
  RopeTable(rope, positions).apply({y.data(), 4, dim});
  for (std::size_t t = 0; t < 4; ++t) {
    for (std::size_t j = 0; j < 4; ++j) {
      const std::size_t a = t * dim + (GetParam() == RopeLayout::half ? j : 2 * j);
      const std::size_t b = t * dim + (GetParam() == RopeLayout::half ? j + 4 : 2 * j + 1);
      const std::complex<double> turned =
          std::complex<double>(x[a], x[b]) *
          std::polar(1.0, static_cast<double>(positions[t]) * rope.inv_freq[j]);
      EXPECT_NEAR(y[a], turned.real(), tolerance) << "token " << t << ", pair " << j;
      EXPECT_NEAR(y[b], turned.imag(), tolerance) << "token " << t << ", pair " << j;
    }
    for (std::size_t i = 8; i < dim; ++i) EXPECT_EQ(y[t * dim + i], x[t * dim + i]);
  }
}

TEST_P(RopeLayouts, RemoveUndoesApplyFromAnyToken) {
  constexpr std::int64_t dim = 8;
  const Rope rope{{0.9, 0.2, 0.01, 0.0003}, GetParam()};
  const std::vector<std::int64_t> positions = {5, 6, 9, 4000, 4001};
  const RopeTable table(rope, positions);
  const std::vector<float> x = random_rows(2 * dim);
  std::vector<float> y = x;
  table.apply({y.data(), 2, dim}, 3);
  double moved = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) moved += std::abs(static_cast<double>(y[i] - x[i]));
  EXPECT_GT(moved, 1.0);
  table.remove({y.data(), 2, dim}, 3);
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], tolerance);
}

INSTANTIATE_TEST_SUITE_P(All, RopeLayouts, testing::Values(RopeLayout::half, RopeLayout::interleaved));

TEST(Rope, WithoutFrequenciesNothingTurns) {
  const std::vector<std::int64_t> positions = {3, 4};
  const std::vector<float> x = random_rows(6);
  std::vector<float> y = x;
  RopeTable(Rope{}, positions).apply({y.data(), 2, 3});
  EXPECT_EQ(x, y);
}

TEST(Rope, RefusesWhatTheTableDoesNotCover) {
  const std::vector<std::int64_t> positions = {0, 1};
  const RopeTable table(Rope{{1.0, 0.1}, RopeLayout::half}, positions);
  std::vector<float> x(16);
  EXPECT_THROW(table.apply({x.data(), 3, 4}), Error);
  EXPECT_THROW(table.apply({x.data(), 2, 4}, 1), Error);
  EXPECT_THROW(table.apply({x.data(), 2, 3}), Error);
}

}  // namespace
}  // namespace rotorquant
