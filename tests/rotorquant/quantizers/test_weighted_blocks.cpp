#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "rotorquant/core/random.hpp"
#include "rotorquant/quantizers/weighted_blocks.hpp"

namespace rotorquant {
namespace {

struct Case {
  std::int64_t vectors, dim, rows;
};

std::vector<float> normals(RandomStream& random, std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) value = static_cast<float>(random.normal());
  return out;
}

TEST(WeightedBlocks, AreTheSumForAnyThreads) {
  RandomStream random(2, Purpose::synthetic);
  for (const Case& c :
       {Case{1, 1, 1}, Case{63, 5, 2}, Case{65, 130, 5}, Case{1024, 64, 4}, Case{2600, 33, 3}}) {
    const std::vector<float> x = normals(random, c.vectors * c.dim);
    const std::vector<float> scales = normals(random, c.vectors);
    const std::vector<float> weights = normals(random, c.rows * c.vectors);
    const auto sum = [&](int threads) {
      std::vector<float> sums(static_cast<std::size_t>(c.rows * c.dim), -1.0F);
      sum_weighted({threads}, {weights.data(), c.rows, c.vectors}, {sums.data(), c.rows, c.dim},
                   [&](std::int64_t begin, std::int64_t count, float* values, float* factors) {
                     std::copy_n(x.data() + begin * c.dim, count * c.dim, values);
                     std::copy_n(scales.data() + begin, count, factors);
                   });
      return sums;
    };
    const std::vector<float> sums = sum(1);
    EXPECT_EQ(sums, sum(3));
    for (std::int64_t i = 0; i < c.rows; ++i) {
      for (std::int64_t k = 0; k < c.dim; ++k) {
        double expected = 0.0, size = 0.0;
        for (std::int64_t t = 0; t < c.vectors; ++t) {
          const double term = static_cast<double>(weights[static_cast<std::size_t>(i * c.vectors + t)]) *
                              static_cast<double>(scales[static_cast<std::size_t>(t)]) *
                              static_cast<double>(x[static_cast<std::size_t>(t * c.dim + k)]);
          expected += term;
          size += std::abs(term);
        }
        // A block of 64 terms in float32, joined by up to 41 such sums: each rounding is 2^-24 of what is
        // there.
        ASSERT_NEAR(sums[static_cast<std::size_t>(i * c.dim + k)], expected, 128 * 0x1p-24 * size + 1e-30);
      }
    }
  }
}

TEST(WeightedBlocks, OfNothingAreZero) {
  std::vector<float> sums(6, -1.0F);
  sum_weighted({2}, {nullptr, 2, 0}, {sums.data(), 2, 3}, [](std::int64_t, std::int64_t, float*, float*) {});
  EXPECT_EQ(sums, std::vector<float>(6, 0.0F));
}

}  // namespace
}  // namespace rotorquant
