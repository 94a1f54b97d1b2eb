#include <gtest/gtest.h>

#include <Eigen/LU>
#include <cmath>

#include "evaluation/calibration/cascade_objective.hpp"
#include "evaluation/calibration/kmeans.hpp"
#include "evaluation/calibration/lbfgs.hpp"
#include "evaluation/calibration/triple_selection.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation::calibration {
namespace {

// Symmetric positive definite, eigenvalues spread over about four decades.
Matrix random_spd(Eigen::Index dim, std::uint32_t index) {
  RandomStream random(21, Purpose::synthetic, index);
  Matrix factor(dim, dim);
  for (Eigen::Index i = 0; i < dim; ++i) {
    for (Eigen::Index j = 0; j < dim; ++j)
      factor(i, j) = random.normal() * std::exp(-4.0 * static_cast<double>(j) / static_cast<double>(dim));
  }
  Matrix result = factor * factor.transpose();
  result *= static_cast<double>(dim) / result.trace();
  return result + 0.01 * Matrix::Identity(dim, dim);
}

Vector random_parameters(const CascadeObjective& objective, BlockKind kind, std::uint32_t index) {
  RandomStream random(22, Purpose::synthetic, index);
  Vector parameters(objective.num_parameters());
  for (Eigen::Index i = 0; i < parameters.size(); ++i) {
    parameters(i) = 0.5 * random.normal();
    // Near the identity, so that general blocks are not almost singular.
    if (kind == BlockKind::general && (i % 9) % 4 == 0) parameters(i) += 2.0;
  }
  return parameters;
}

class CascadeObjectives : public testing::TestWithParam<BlockKind> {
 protected:
  const std::vector<std::vector<Triple>> layers_ = {
      {{0, 1, 2}, {3, 7, 9}}, {{9, 0, 5}}, {{1, 3, 4}, {8, 2, 6}, {0, 5, 7}}};
  const Matrix keys_ = random_spd(10, 1);
  const Matrix queries_ = random_spd(10, 2);
  const CascadeObjective objective_{GetParam(), layers_, keys_, queries_, 0.02};
};

TEST_P(CascadeObjectives, GradientEqualsCentralDifferences) {
  const Vector parameters = random_parameters(objective_, GetParam(), 3);
  Vector gradient;
  objective_(parameters, gradient);
  ASSERT_EQ(gradient.size(), parameters.size());
  constexpr double step = 1e-5;
  Vector unused;
  for (Eigen::Index i = 0; i < parameters.size(); ++i) {
    Vector above = parameters;
    Vector below = parameters;
    above(i) += step;
    below(i) -= step;
    const double difference = (objective_(above, unused) - objective_(below, unused)) / (2.0 * step);
    // Second-order differences of a function of size 30: step^2 and rounding / step.
    EXPECT_NEAR(gradient(i), difference, 1e-7 * (1.0 + std::abs(difference))) << "parameter " << i;
  }
}

TEST_P(CascadeObjectives, ValueIsThatOfTheStoredCascade) {
  const Vector parameters = random_parameters(objective_, GetParam(), 4);
  Vector gradient;
  const double value = objective_(parameters, gradient);
  const BlockCascade cascade = objective_.cascade(parameters);
  const std::vector<double> forward = cascade.matrix();
  const Matrix f = Eigen::Map<const Matrix>(forward.data(), 10, 10);
  const Matrix dual = f.inverse().transpose();
  const Vector lambda = (f * keys_ * f.transpose()).diagonal();
  const Vector weights = (dual * queries_ * dual.transpose()).diagonal();
  EXPECT_NEAR(cascade_distortion(lambda, weights, 0.02), value, 1e-5 * std::abs(value));  // float32 blocks
}

TEST_P(CascadeObjectives, RefinementApproachesTheBoundFromAbove) {
  const Matrix keys = random_spd(24, 5);
  const Matrix queries = random_spd(24, 6);
  const Vector eigenvalues = product_eigenvalues(keys, queries);
  const double theta = water_level(eigenvalues, 3.0);
  const double bound = cascade_distortion(eigenvalues, Vector::Ones(24), theta);
  const double unmixed = cascade_distortion(keys.diagonal(), queries.diagonal(), theta);
  double previous = unmixed;
  for (const int layers : {1, 4, 8}) {
    CascadeStart start = greedy_cascade(GetParam(), layers, keys, queries, theta);
    ASSERT_EQ(start.layers.size(), static_cast<std::size_t>(layers));
    const CascadeObjective objective(GetParam(), start.layers, keys, queries, theta);
    Vector gradient;
    const double greedy = objective(start.parameters, gradient);
    const double refined = minimize_lbfgs(objective, start.parameters, {}).objective;
    EXPECT_LT(greedy, unmixed);
    // One layer of general blocks is best as chosen: its triples do not interact.
    if (layers > 1 || GetParam() == BlockKind::rotor) {
      EXPECT_LT(refined, greedy);
    } else {
      EXPECT_LE(refined, greedy);
    }
    EXPECT_LT(refined, previous);
    EXPECT_GT(refined, bound - 1e-9);
    previous = refined;
  }
  // Rotors with one diagonal cannot diagonalise two matrices at once; general blocks come close.
  EXPECT_LT(previous - bound, (GetParam() == BlockKind::general ? 0.2 : 0.7) * (unmixed - bound));
}

INSTANTIATE_TEST_SUITE_P(Kinds, CascadeObjectives, testing::Values(BlockKind::rotor, BlockKind::general),
                         [](const auto& instance) {
                           return instance.param == BlockKind::rotor ? "rotor" : "general";
                         });

// Three coordinates are one block: the general kind then reaches the bound at once.
TEST(Cascade, OneGeneralBlockDiagonalisesThreeCoordinates) {
  const Matrix keys = random_spd(3, 7);
  const Matrix queries = random_spd(3, 8);
  const Vector eigenvalues = product_eigenvalues(keys, queries);
  const double theta = water_level(eigenvalues, 2.0);
  const CascadeStart start = greedy_cascade(BlockKind::general, 1, keys, queries, theta);
  const CascadeObjective objective(BlockKind::general, start.layers, keys, queries, theta);
  Vector gradient;
  EXPECT_NEAR(objective(start.parameters, gradient), cascade_distortion(eigenvalues, Vector::Ones(3), theta),
              1e-9);
}

TEST(Cascade, FewerThanThreeCoordinatesHaveNoBlocks) {
  const Matrix keys = random_spd(2, 9);
  for (const BlockKind kind : {BlockKind::rotor, BlockKind::general}) {
    CascadeStart start = greedy_cascade(kind, 4, keys, keys, 0.1);
    EXPECT_TRUE(start.layers.empty());
    const CascadeObjective objective(kind, start.layers, keys, keys, 0.1);
    Vector gradient;
    EXPECT_TRUE(std::isfinite(objective(start.parameters, gradient)));
    minimize_lbfgs(objective, start.parameters, {});
    EXPECT_EQ(objective.cascade(start.parameters).delta.size(), 2U);
  }
}

TEST(Cascade, WaterLevelSpendsTheRate) {
  const Vector eigenvalues = product_eigenvalues(random_spd(20, 10), random_spd(20, 11));
  for (const double bits : {0.5, 2.0, 6.0}) {
    const double theta = water_level(eigenvalues, bits);
    const double rate = (0.5 * (eigenvalues.array() / theta).log() / std::log(2.0)).cwiseMax(0.0).sum();
    EXPECT_NEAR(rate, bits * 20.0, 1e-9 * bits * 20.0);
  }
}

TEST(Lbfgs, FindsTheMinimumOfRosenbrocksFunction) {
  const auto rosenbrock = [](const Vector& x, Vector& gradient) {
    gradient.setZero(x.size());
    double value = 0.0;
    for (Eigen::Index i = 0; i + 1 < x.size(); ++i) {
      const double a = x(i + 1) - x(i) * x(i);
      const double b = 1.0 - x(i);
      value += 100.0 * a * a + b * b;
      gradient(i) += -400.0 * x(i) * a - 2.0 * b;
      gradient(i + 1) += 200.0 * a;
    }
    return value;
  };
  Vector x = Vector::Constant(10, -1.2);
  LbfgsSettings settings;
  settings.iterations = 500;
  settings.decrease_tolerance = 0.0;
  const LbfgsResult result = minimize_lbfgs(rosenbrock, x, settings);
  EXPECT_LT(result.objective, 1e-9);
  EXPECT_LT((x - Vector::Ones(10)).norm(), 1e-4);
  EXPECT_LT(result.iterations, 200);
}

TEST(KMeans, FindsSeparatedClustersAndFollowsWeights) {
  RandomStream random(23, Purpose::synthetic);
  Matrix points(400, 3);
  Vector weights = Vector::Ones(400);
  for (Eigen::Index i = 0; i < 400; ++i) {
    for (Eigen::Index c = 0; c < 3; ++c)
      points(i, c) = 0.1 * random.normal() + ((i % 4) >> (c % 2) & 1 ? 5.0 : -5.0);
  }
  const Matrix centres = kmeans(points, weights, {4, 3, 25, 0, 0});
  const std::vector<Eigen::Index> nearest = nearest_centres(points, centres);
  for (Eigen::Index i = 0; i < 400; ++i) {
    EXPECT_LT((points.row(i) - centres.row(nearest[static_cast<std::size_t>(i)])).norm(), 1.0);
  }
  // One centre lies at the weighted mean.
  weights.head(200).setConstant(3.0);
  const Matrix one = kmeans(points, weights, {1, 1, 5, 0, 0});
  EXPECT_LT((one.row(0).transpose() - (points.transpose() * weights) / weights.sum()).norm(), 1e-9);
  EXPECT_EQ(kmeans(points.topRows(2), weights.head(2), {8, 1, 5, 0, 0}).rows(), 2);
}

}  // namespace
}  // namespace rotorquant::evaluation::calibration
