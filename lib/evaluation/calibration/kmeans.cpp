#include "evaluation/calibration/kmeans.hpp"

#include <algorithm>
#include <limits>

#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation::calibration {
namespace {

Matrix starting_centres(const Matrix& points, const Vector& weights, Eigen::Index clusters,
                        RandomStream& random) {
  Matrix centres(clusters, points.cols());
  centres.row(0) = (weights.transpose() * points) / weights.sum();
  Vector distances = (points.rowwise() - centres.row(0)).rowwise().squaredNorm();
  for (Eigen::Index c = 1; c < clusters; ++c) {
    // A draw in proportion to weight times squared distance; the last point where rounding exhausts the sum.
    const double target = random.uniform() * weights.dot(distances);
    Eigen::Index chosen = 0;
    for (double sum = 0.0; chosen + 1 < points.rows(); ++chosen) {
      sum += weights(chosen) * distances(chosen);
      if (sum > target) break;
    }
    centres.row(c) = points.row(chosen);
    distances = distances.cwiseMin((points.rowwise() - centres.row(c)).rowwise().squaredNorm());
  }
  return centres;
}

void move_to_means(const Matrix& points, const Vector& weights, const std::vector<Eigen::Index>& assignment,
                   Matrix& centres) {
  Matrix sums = Matrix::Zero(centres.rows(), centres.cols());
  Vector masses = Vector::Zero(centres.rows());
  for (Eigen::Index i = 0; i < points.rows(); ++i) {
    const Eigen::Index c = assignment[static_cast<std::size_t>(i)];
    sums.row(c) += weights(i) * points.row(i);
    masses(c) += weights(i);
  }
  for (Eigen::Index c = 0; c < centres.rows(); ++c) {
    if (masses(c) > 0.0) centres.row(c) = sums.row(c) / masses(c);  // a centre without points stays
  }
}

}  // namespace

std::vector<Eigen::Index> nearest_centres(const Matrix& points, const Matrix& centres) {
  const Vector norms = centres.rowwise().squaredNorm();
  const Matrix products = points * centres.transpose();
  std::vector<Eigen::Index> nearest(static_cast<std::size_t>(points.rows()));
  for (Eigen::Index i = 0; i < points.rows(); ++i) {
    (norms.transpose() - 2.0 * products.row(i)).minCoeff(&nearest[static_cast<std::size_t>(i)]);
  }
  return nearest;
}

Matrix kmeans(const Matrix& points, const Vector& weights, const KMeansSettings& settings) {
  const Eigen::Index clusters = std::min(static_cast<Eigen::Index>(settings.clusters), points.rows());
  Matrix best;
  double least = std::numeric_limits<double>::infinity();
  for (int restart = 0; restart < settings.restarts; ++restart) {
    RandomStream random(settings.seed, Purpose::calibration,
                        settings.stream + static_cast<std::uint32_t>(restart));
    Matrix centres = starting_centres(points, weights, clusters, random);
    for (int iteration = 0; iteration < settings.iterations; ++iteration) {
      move_to_means(points, weights, nearest_centres(points, centres), centres);
    }
    const std::vector<Eigen::Index> assignment = nearest_centres(points, centres);
    double objective = 0.0;
    for (Eigen::Index i = 0; i < points.rows(); ++i) {
      objective +=
          weights(i) * (points.row(i) - centres.row(assignment[static_cast<std::size_t>(i)])).squaredNorm();
    }
    if (objective < least) {
      least = objective;
      best = std::move(centres);
    }
  }
  return best;
}

}  // namespace rotorquant::evaluation::calibration
