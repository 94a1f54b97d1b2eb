#pragma once
// Weighted Euclidean k-means (Lloyd), started from the weighted mean and weighted k-means++ draws (Arthur &
// Vassilvitskii 2007); the best of several starts by the weighted sum of squared distances.
#include <cstdint>
#include <vector>

#include "evaluation/calibration/matrix.hpp"

namespace rotorquant::evaluation::calibration {

struct KMeansSettings {
  std::int64_t clusters = 32;
  int restarts = 3;
  int iterations = 25;
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;  // index of the random stream: restart r uses stream + r
};

// points [n, d], weights [n] -> centres [min(clusters, n), d].
Matrix kmeans(const Matrix& points, const Vector& weights, const KMeansSettings& settings);

// Index of the nearest centre of each point, [n]; ties go to the lower index.
std::vector<Eigen::Index> nearest_centres(const Matrix& points, const Matrix& centres);

}  // namespace rotorquant::evaluation::calibration
