// The trellis search under a full metric, against the search by the metric's diagonal and against all
// symbols.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "rotorquant/codes/trellis.hpp"
#include "rotorquant/codes/trellis_feedback.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

struct Instance {
  std::vector<std::uint8_t> widths;  // [dim]
  std::vector<float> metric;         // [dim, dim]
  std::vector<float> y;              // [dim]
};

// metric = A^T A / dim + ridge: the smaller the ridge, the stronger the coupling.
Instance random_instance(RandomStream& random, const std::vector<std::uint8_t>& widths, double ridge) {
  const std::size_t dim = widths.size();
  Instance instance{widths, std::vector<float>(dim * dim), {}};
  std::vector<double> a(dim * dim);
  for (double& value : a) value = random.normal();
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t j = 0; j < dim; ++j) {
      double sum = i == j ? ridge : 0.0;
      for (std::size_t k = 0; k < dim; ++k) sum += a[k * dim + i] * a[k * dim + j] / static_cast<double>(dim);
      instance.metric[i * dim + j] = static_cast<float>(sum);
    }
    instance.y.push_back(static_cast<float>(random.normal()));
  }
  return instance;
}

double cost(const Instance& instance, const TrellisCode& code, const std::vector<std::uint8_t>& symbols,
            float scale) {
  const std::size_t dim = instance.y.size();
  std::vector<float> values(dim);
  code.decode(symbols.data(), values.data());
  double sum = 0.0;
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t j = 0; j < dim; ++j) {
      sum += static_cast<double>(instance.metric[i * dim + j]) *
             (static_cast<double>(instance.y[i]) - static_cast<double>(scale * values[i])) *
             (static_cast<double>(instance.y[j]) - static_cast<double>(scale * values[j]));
    }
  }
  return sum;
}

// The register that the first used coordinate sees.
unsigned seam_of(const TrellisCode& code, const std::vector<std::uint8_t>& symbols) {
  std::vector<std::uint8_t> used;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    if (code.widths()[i] > 0) used.push_back(symbols[i]);
  }
  unsigned seam = 0;
  const auto memory = static_cast<std::size_t>(code.memory());
  for (std::size_t back = memory; back > 0; --back) {
    seam = seam << 1 | (used[(used.size() * memory - back) % used.size()] & 1U);
  }
  return seam;
}

std::vector<std::uint8_t> by_diagonal(const Instance& instance, const TrellisCode& code, float scale) {
  const std::size_t dim = instance.y.size();
  std::vector<float> targets(dim);
  std::vector<float> weights(dim);
  for (std::size_t i = 0; i < dim; ++i) {
    targets[i] = instance.y[i] / scale;
    weights[i] = instance.metric[i * dim + i];
  }
  TrellisWorkspace workspace;
  std::vector<std::uint8_t> symbols(dim);
  code.encode(targets.data(), weights.data(), symbols.data(), workspace);
  return symbols;
}

std::vector<std::uint8_t> by_feedback(const Instance& instance, const TrellisCode& code, float scale,
                                      unsigned seam) {
  TrellisFeedback::Workspace workspace;
  std::vector<std::uint8_t> symbols(instance.y.size());
  TrellisFeedback(code, instance.metric)
      .encode(code, instance.y.data(), scale, seam, symbols.data(), workspace);
  return symbols;
}

class Feedback : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Memories, Feedback, testing::Values(3, 5),
                         [](const auto& memory) { return fmt::format("M{}", memory.param); });

const std::vector<std::uint8_t> mixed_widths = {2, 3, 0, 1, 4, 2, 2, 0, 5, 1, 3, 2, 8, 2, 1, 0, 2, 3, 1, 2};

TEST_P(Feedback, UncoupledCoordinatesGetTheDiagonalSearch) {
  const TrellisCode code(mixed_widths, GetParam());
  RandomStream random(1, Purpose::synthetic);
  for (int trial = 0; trial < 50; ++trial) {
    Instance instance = random_instance(random, mixed_widths, 0.1);
    for (std::size_t i = 0; i < instance.y.size(); ++i) {
      for (std::size_t j = 0; j < instance.y.size(); ++j) {
        if (i != j) instance.metric[i * instance.y.size() + j] = 0.0F;
      }
    }
    const std::vector<std::uint8_t> expected = by_diagonal(instance, code, 1.0F);
    EXPECT_EQ(by_feedback(instance, code, 1.0F, seam_of(code, expected)), expected);
  }
}

TEST_P(Feedback, CoupledCoordinatesMakeUpForEachOther) {
  const TrellisCode code(mixed_widths, GetParam());
  RandomStream random(2, Purpose::synthetic);
  constexpr float scale = 0.8F;
  double diagonal = 0.0;
  double feedback = 0.0;
  for (int trial = 0; trial < 100; ++trial) {
    const Instance instance = random_instance(random, mixed_widths, 0.1);
    const std::vector<std::uint8_t> first = by_diagonal(instance, code, scale);
    const std::vector<std::uint8_t> second = by_feedback(instance, code, scale, seam_of(code, first));
    EXPECT_EQ(seam_of(code, second), seam_of(code, first)) << "the path ends where it began";
    diagonal += cost(instance, code, first, scale);
    feedback += cost(instance, code, second, scale);
  }
  EXPECT_LT(feedback, 0.8 * diagonal);
}

// Six coordinates of one bit: all 64 words can be tried. The search keeps one path per register, so it may
// miss the best word with that seam, but not by much.
TEST_P(Feedback, ComesNearTheOptimumOfShortVectors) {
  const std::vector<std::uint8_t> widths(6, 1);
  const TrellisCode code(widths, GetParam());
  RandomStream random(3, Purpose::synthetic);
  double found = 0.0;
  double optimum = 0.0;
  for (int trial = 0; trial < 200; ++trial) {
    const Instance instance = random_instance(random, widths, 0.3);
    const std::vector<std::uint8_t> start = by_diagonal(instance, code, 1.0F);
    const unsigned seam = seam_of(code, start);
    double least = std::numeric_limits<double>::infinity();
    for (unsigned word = 0; word < 64; ++word) {
      std::vector<std::uint8_t> symbols;
      for (unsigned i = 0; i < 6; ++i) symbols.push_back(static_cast<std::uint8_t>(word >> i & 1U));
      if (seam_of(code, symbols) == seam) least = std::min(least, cost(instance, code, symbols, 1.0F));
    }
    const double reached = cost(instance, code, by_feedback(instance, code, 1.0F, seam), 1.0F);
    EXPECT_GE(reached, least * (1.0 - 1e-5));
    found += reached;
    optimum += least;
  }
  EXPECT_LT(found, 1.1 * optimum);
}

TEST(TrellisFeedback, RefusesAMetricThatIsNotPositive) {
  const TrellisCode code(std::vector<std::uint8_t>{1, 1}, 3);
  EXPECT_THROW(TrellisFeedback(code, std::vector<float>{1.0F, 2.0F, 2.0F, 1.0F}), Error);
}

}  // namespace
}  // namespace rotorquant
