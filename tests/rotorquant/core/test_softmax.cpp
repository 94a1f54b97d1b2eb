#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "rotorquant/core/random.hpp"
#include "rotorquant/core/softmax.hpp"

namespace rotorquant {
namespace {

// Of a share: its exponential (2e-7), the rounding of scale * (score - largest) at 2^6, and that of the sum.
constexpr double tolerance = 1e-5;

TEST(Softmax, IsThatOfFloat64) {
  RandomStream random(1, Purpose::synthetic);
  for (const std::int64_t count : {1, 2, 15, 16, 17, 31, 100, 1000}) {
    for (const float scale : {0.01F, 1.0F, 20.0F}) {
      std::vector<float> row(static_cast<std::size_t>(count));
      for (float& score : row) score = static_cast<float>(random.normal());
      std::vector<double> expected(row.begin(), row.end());
      const double largest = *std::max_element(expected.begin(), expected.end());
      double sum = 0.0;
      for (double& score : expected) sum += score = std::exp(static_cast<double>(scale) * (score - largest));
      softmax(row.data(), count, scale);
      for (std::size_t t = 0; t < row.size(); ++t)
        ASSERT_NEAR(row[t], expected[t] / sum, tolerance * expected[t] / sum + 1e-37)
            << count << " " << scale;
    }
  }
}

TEST(Softmax, SharesTooSmallForFloat32AreNothing) {
  std::vector<float> row{0.0F, -1000.0F, -std::numeric_limits<float>::infinity(), 0.0F};
  softmax(row.data(), 4, 1.0F);
  EXPECT_EQ(row, (std::vector<float>{0.5F, 0.0F, 0.0F, 0.5F}));
}

TEST(Softmax, NanStaysNan) {
  std::vector<float> row{0.0F, std::nanf(""), 1.0F};
  softmax(row.data(), 3, 1.0F);
  EXPECT_TRUE(std::isnan(row[0]) && std::isnan(row[1]) && std::isnan(row[2]));
}

}  // namespace
}  // namespace rotorquant
