#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numbers>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

const std::vector<std::int64_t> dims = {1, 2, 3, 4, 5, 8, 64, 257, 1024, 4096};

// Composite Boole rule, of order h^6: an integration that shares nothing with the closed forms under test.
double integrate(const std::function<double(double)>& f, double low, double high) {
  constexpr int steps = 2000;
  const double h = (high - low) / steps;
  double sum = 7.0 * (f(low) + f(high));
  for (int i = 1; i < steps; ++i) sum += (i % 2 == 1 ? 32.0 : i % 4 == 2 ? 12.0 : 14.0) * f(low + i * h);
  return sum * 2.0 * h / 45.0;
}

// A law written as t = value(s), density proportional to weight(s) ds on [-reach, reach].
struct Law {
  std::function<double(double)> value, inverse, weight;
  double reach;
};

Law normal_law() {
  const auto same = [](double s) { return s; };
  return {same, same, [](double s) { return std::exp(-0.5 * s * s); }, 12.0};
}

// t = sin(s) makes the weight cos(s)^(d-2), which is smooth for every d >= 2.
Law sphere_law(std::int64_t dim) {
  const double deviation = 1.0 / std::sqrt(static_cast<double>(dim));
  return {[](double s) { return std::sin(s); }, [](double t) { return std::asin(std::clamp(t, -1.0, 1.0)); },
          [dim](double s) { return std::pow(std::max(std::cos(s), 0.0), static_cast<double>(dim - 2)); },
          std::min(std::numbers::pi / 2.0, 14.0 * deviation)};
}

double moment(const Law& law, double low, double high, const std::function<double(double)>& of) {
  return integrate([&](double s) { return of(law.value(s)) * law.weight(s); }, low, high);
}

double cell_edge(const Law& law, const std::vector<double>& levels, std::size_t i) {
  if (i == 0) return -law.reach;
  if (i == levels.size()) return law.reach;
  return std::clamp(law.inverse(0.5 * (levels[i - 1] + levels[i])), -law.reach, law.reach);
}

// Largest distance of a level from the centroid of its cell.
double stationarity_gap(const Law& law, const std::vector<double>& levels) {
  double worst = 0.0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const double low = cell_edge(law, levels, i);
    const double high = cell_edge(law, levels, i + 1);
    const double mass = moment(law, low, high, [](double) { return 1.0; });
    EXPECT_GT(mass, 0.0);
    const double centroid = moment(law, low, high, [](double t) { return t; }) / mass;
    worst = std::max(worst, std::abs(levels[i] - centroid));
  }
  return worst;
}

double integrated_distortion(const Law& law, const std::vector<double>& levels) {
  double total = 0.0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    total += moment(law, cell_edge(law, levels, i), cell_edge(law, levels, i + 1),
                    [&](double t) { return (t - levels[i]) * (t - levels[i]); });
  }
  return total / moment(law, -law.reach, law.reach, [](double) { return 1.0; });
}

std::vector<double> as_doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

class LloydMax : public ::testing::TestWithParam<int> {};

TEST_P(LloydMax, NormalLevelsAreStationary) {
  constexpr double tolerance = 1e-11;  // of the integration above
  EXPECT_LE(stationarity_gap(normal_law(), lloyd_max_normal_levels(GetParam())), tolerance);
}

TEST_P(LloydMax, SphereLevelsAreStationary) {
  for (const std::int64_t dim : dims) {
    if (dim == 1) continue;
    // Levels and boundaries are rounded to float32 numbers of up to five deviations.
    const double tolerance = 5e-7 / std::sqrt(static_cast<double>(dim));
    const Codebook codebook = lloyd_max_codebook(CodebookLaw::sphere, GetParam(), dim);
    EXPECT_LE(stationarity_gap(sphere_law(dim), as_doubles(codebook.centroids)), tolerance) << "dim " << dim;
  }
}

TEST_P(LloydMax, CodebooksAreSymmetricAscendingAndInTheSupport) {
  for (const CodebookLaw law : {CodebookLaw::gaussian, CodebookLaw::sphere}) {
    for (const std::int64_t dim : dims) {
      const Codebook codebook = lloyd_max_codebook(law, GetParam(), dim);
      const std::size_t count = std::size_t{1} << GetParam();
      EXPECT_EQ(codebook.bits(), GetParam());
      ASSERT_EQ(codebook.centroids.size(), count);
      ASSERT_EQ(codebook.boundaries.size(), count - 1);
      for (std::size_t i = 0; i < count; ++i) {
        EXPECT_EQ(codebook.centroids[i], -codebook.centroids[count - 1 - i]);
        if (i == 0) continue;
        EXPECT_LT(codebook.centroids[i - 1], codebook.boundaries[i - 1]);
        EXPECT_LT(codebook.boundaries[i - 1], codebook.centroids[i]);
      }
      if (law == CodebookLaw::sphere) {
        EXPECT_LE(codebook.centroids.back(), 1.0F);
      }
    }
  }
}

TEST_P(LloydMax, ExpectedDistortionIsTheIntegral) {
  for (const CodebookLaw law : {CodebookLaw::gaussian, CodebookLaw::sphere}) {
    for (const std::int64_t dim : dims) {
      if (dim == 1) continue;
      const Codebook codebook = lloyd_max_codebook(law, GetParam(), dim);
      const double expected =
          static_cast<double>(dim) * integrated_distortion(sphere_law(dim), as_doubles(codebook.centroids));
      EXPECT_NEAR(expected_distortion(codebook, dim), expected, 1e-6 * expected) << "dim " << dim;
    }
  }
}

TEST_P(LloydMax, TheExactLawServesUnitVectorsBest) {
  for (const std::int64_t dim : dims) {
    const double exact = expected_distortion(lloyd_max_codebook(CodebookLaw::sphere, GetParam(), dim), dim);
    const double gaussian =
        expected_distortion(lloyd_max_codebook(CodebookLaw::gaussian, GetParam(), dim), dim);
    EXPECT_LE(exact, gaussian * (1.0 + 1e-6)) << "dim " << dim;
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, LloydMax, ::testing::Range(1, 9));

TEST(LloydMaxTable, OneMoreBitIsAlwaysBetter) {
  for (const std::int64_t dim : dims) {
    if (dim == 1) continue;  // exact at any width
    for (int bits = 2; bits <= 8; ++bits) {
      const auto at = [&](CodebookLaw law, int b) {
        return expected_distortion(lloyd_max_codebook(law, b, dim), dim);
      };
      EXPECT_LT(at(CodebookLaw::sphere, bits), at(CodebookLaw::sphere, bits - 1)) << dim << " " << bits;
      EXPECT_LT(lloyd_max_normal_distortion(bits), lloyd_max_normal_distortion(bits - 1));
    }
  }
}

TEST(LloydMaxTable, DistortionsEqualThePublishedOnes) {
  struct Row {
    int bits;
    double normal, d8, d64, d128;
  };
  const std::vector<Row> table = {{1, .36338, .3231, .3584, .3609},
                                  {2, .11748, .0963, .1146, .1160},
                                  {3, .03454, .0296, .0334, .0340},
                                  {4, .009501, .0085, .00917, .00932}};
  // One unit of the last printed digit.
  const auto unit = [](int digits) { return std::pow(10.0, -digits); };
  for (const Row& row : table) {
    const auto at = [&](std::int64_t dim) {
      return expected_distortion(lloyd_max_codebook(CodebookLaw::gaussian, row.bits, dim), dim);
    };
    EXPECT_NEAR(lloyd_max_normal_distortion(row.bits), row.normal, unit(row.bits == 4 ? 6 : 5));
    EXPECT_NEAR(at(8), row.d8, unit(4));
    EXPECT_NEAR(at(64), row.d64, unit(row.bits == 4 ? 5 : 4));
    EXPECT_NEAR(at(128), row.d128, unit(row.bits == 4 ? 5 : 4));
  }
}

TEST(LloydMaxTable, ALongUnitVectorHasNormalCoordinates) {
  constexpr std::int64_t dim = 1 << 14;
  for (const int bits : {1, 4}) {
    const Codebook codebook = lloyd_max_codebook(CodebookLaw::sphere, bits, dim);
    const std::vector<double> levels = lloyd_max_normal_levels(bits);
    for (std::size_t i = 0; i < levels.size(); ++i) {
      EXPECT_NEAR(codebook.centroids[i] * 128.0, levels[i], 1e-3) << bits << " bits, level " << i;
    }
    EXPECT_NEAR(expected_distortion(codebook, dim), lloyd_max_normal_distortion(bits),
                1e-3 * lloyd_max_normal_distortion(bits));
  }
}

TEST(LloydMaxTable, OneCoordinateIsTwoPoints) {
  for (int bits = 1; bits <= 8; ++bits) {
    const Codebook codebook = lloyd_max_codebook(CodebookLaw::sphere, bits, 1);
    EXPECT_EQ(codebook.centroids.front(), -1.0F);
    EXPECT_EQ(codebook.centroids.back(), 1.0F);
    EXPECT_EQ(expected_distortion(codebook, 1), 0.0);
  }
}

TEST(Codebook, TakesAnyAscendingCentroids) {
  const Codebook codebook = Codebook::from_centroids({-3.0F, -1.0F, 0.0F, 5.0F});
  EXPECT_EQ(codebook.bits(), 2);
  EXPECT_EQ(codebook.boundaries, (std::vector<float>{-2.0F, -0.5F, 2.5F}));
}

TEST(Codebook, RefusesOthers) {
  EXPECT_THROW(Codebook::from_centroids({}), Error);
  EXPECT_THROW(Codebook::from_centroids({1.0F}), Error);
  EXPECT_THROW(Codebook::from_centroids({1.0F, 2.0F, 3.0F}), Error);
  EXPECT_THROW(Codebook::from_centroids({2.0F, 1.0F}), Error);
  EXPECT_THROW(Codebook::from_centroids(std::vector<float>(512)), Error);
  EXPECT_THROW(lloyd_max_codebook(CodebookLaw::gaussian, 0, 8), UsageError);
  EXPECT_THROW(lloyd_max_codebook(CodebookLaw::gaussian, 9, 8), UsageError);
  EXPECT_THROW(lloyd_max_codebook(CodebookLaw::sphere, 2, 0), Error);
}

}  // namespace
}  // namespace rotorquant
