// The pieces of the attention metrics: ordered product, exponentials, selection of the strongest keys.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <vector>

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/panel_product.hpp"
#include "evaluation/metrics/softmax_row.hpp"
#include "evaluation/metrics/top_keys.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation {
namespace {

TEST(PanelProduct, AddsInAscendingOrderBitForBit) {
  RandomStream random(1, Purpose::synthetic);
  for (const auto& [rows, depth, cols] :
       {std::tuple{1, 1, 1}, {9, 130, 17}, {8, 128, 16}, {23, 300, 40}, {3, 257, 5}}) {
    std::vector<float> b(static_cast<std::size_t>(depth * cols));
    std::vector<float> transposed(b.size());
    std::vector<double> a(static_cast<std::size_t>(rows * depth));
    for (double& value : a) value = random.normal();
    for (std::int64_t k = 0; k < depth; ++k) {
      for (std::int64_t j = 0; j < cols; ++j) {
        b[static_cast<std::size_t>(k * cols + j)] = static_cast<float>(random.normal());
        transposed[static_cast<std::size_t>(j * depth + k)] = b[static_cast<std::size_t>(k * cols + j)];
      }
    }
    PanelMatrix direct;
    PanelMatrix from_transposed;
    direct.assign({b.data(), depth, cols});
    from_transposed.assign_transposed({transposed.data(), cols, depth});
    const std::int64_t stride = direct.padded_cols() + 16;
    for (const PanelMatrix* matrix : {&direct, &from_transposed}) {
      std::vector<double> c(static_cast<std::size_t>(rows * stride), -1.0);
      panel_product(a.data(), depth, rows, depth, *matrix, cols, c.data(), stride);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t j = 0; j < cols; ++j) {
          double sum = 0.0;
          for (std::int64_t k = 0; k < depth; ++k) {
            sum += a[static_cast<std::size_t>(r * depth + k)] *
                   static_cast<double>(b[static_cast<std::size_t>(k * cols + j)]);
          }
          ASSERT_EQ(c[static_cast<std::size_t>(r * stride + j)], sum) << r << "," << j;
        }
        EXPECT_EQ(c[static_cast<std::size_t>(r * stride + direct.padded_cols())], -1.0)
            << "written beyond the panels";
      }
    }
  }
}

TEST(Exponentials, AreWithinTwoUnitsInTheLastPlace) {
  constexpr double tolerance = 2.0 * 0x1p-53 * 1.5;  // 1.5 ulp, relative to the lower end of a binade
  RandomStream random(2, Purpose::synthetic);
  for (const double reach : {1e-9, 1.0, 40.0, 707.0}) {
    std::vector<double> x(1000);
    for (double& value : x) value = -reach * random.uniform();
    x[0] = 0.0;
    std::vector<double> out(x.size());
    const double sum = exponentials(x.data(), 1000, 1000, 1.0, 0.0, out.data());
    EXPECT_EQ(out[0], 1.0);
    long double expected_sum = 0.0L;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const long double expected = std::exp(static_cast<long double>(x[i]));
      expected_sum += expected;
      ASSERT_NEAR(static_cast<double>(out[i] / expected), 1.0, tolerance) << x[i];
    }
    EXPECT_NEAR(static_cast<double>(sum / expected_sum), 1.0, 1e-14);
  }
}

TEST(Exponentials, TailIsZeroAndWhatFollowsHasNoEffect) {
  std::vector<double> x(24, 1e300);  // would overflow if it took part
  for (std::size_t i = 0; i < 3; ++i) x[i] = static_cast<double>(i);
  std::vector<double> out(24, -1.0);
  const double sum = exponentials(x.data(), 3, 17, 2.0, 4.0, out.data());
  EXPECT_NEAR(sum, 1.0 + std::exp(-2.0) + std::exp(-4.0), 1e-15);
  for (std::size_t i = 3; i < 24; ++i) EXPECT_EQ(out[i], 0.0);
}

TEST(Exponentials, UnderflowIsZero) {
  std::vector<double> x = {0.0, -707.0, -709.0, -1e6, -1e300, 0.0, 0.0, 0.0};
  std::vector<double> out(8);
  exponentials(x.data(), 5, 5, 1.0, 0.0, out.data());
  EXPECT_GT(out[1], 0.0);
  for (const std::size_t i : {2, 3, 4}) EXPECT_EQ(out[i], 0.0);
}

TEST(TopKeys, EqualsASortWithTiesByIndex) {
  RandomStream random(3, Purpose::synthetic);
  for (std::int64_t count = 1; count <= 200; ++count) {
    for (const std::int64_t distinct : {2, 5, 1000000}) {
      std::vector<double> scores(static_cast<std::size_t>(count));
      for (double& score : scores) score = static_cast<double>(random.integer(distinct));
      std::vector<std::int32_t> order(scores.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
      });
      const TopKeys top = top_keys(scores.data(), count);
      ASSERT_EQ(top.count, std::min<std::int64_t>(count, top_key_count));
      for (std::int32_t i = 0; i < top.count; ++i) {
        ASSERT_EQ(top.index[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(i)])
            << count << " " << distinct;
      }
    }
  }
}

// Of scores some of which are equal once they are rounded.
TEST(RoundedTopKeys, AreThoseOfTheRoundedScores) {
  RandomStream random(5, Purpose::synthetic);
  for (std::int64_t count = 1; count <= 200; ++count) {
    for (const std::int64_t distinct : {3, 40, 1000000}) {
      std::vector<double> scores(static_cast<std::size_t>(count));
      for (double& score : scores)
        score = static_cast<double>(random.integer(distinct)) + 1e-12 * random.uniform();
      const std::vector<float> rounded(scores.begin(), scores.end());
      const TopKeys expected = top_keys(rounded.data(), count);
      const TopKeys found = rounded_top_keys(rounded.data(), count, top_keys(scores.data(), count));
      ASSERT_EQ(found.count, expected.count);
      ASSERT_EQ(found.index, expected.index) << count << " " << distinct;
    }
  }
}

TEST(TopOverlap, IsThatOfTheTwoSelections) {
  RandomStream random(4, Purpose::synthetic);
  for (std::int64_t count = 1; count <= 200; ++count) {
    for (const std::int64_t distinct : {2, 5, 1000000}) {
      std::vector<double> exact(static_cast<std::size_t>(count));
      std::vector<double> estimates(exact.size());
      for (std::size_t i = 0; i < exact.size(); ++i) {
        exact[i] = static_cast<double>(random.integer(distinct));
        estimates[i] = exact[i] + static_cast<double>(random.integer(distinct / 2));
      }
      const TopKeys a = top_keys(exact.data(), count);
      const TopKeys b = top_keys(estimates.data(), count);
      std::int32_t common = 0;
      for (std::int32_t i = 0; i < a.count; ++i) {
        common += static_cast<std::int32_t>(
            std::count(b.index.begin(), b.index.begin() + b.count, a.index[static_cast<std::size_t>(i)]));
      }
      const TopOverlap overlap = top_overlap(estimates.data(), count, a);
      ASSERT_EQ(overlap.common, common) << count << " " << distinct;
      ASSERT_EQ(overlap.first, a.index[0] == b.index[0]) << count << " " << distinct;
    }
  }
}

}  // namespace
}  // namespace rotorquant::evaluation
