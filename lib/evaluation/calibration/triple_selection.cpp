#include "evaluation/calibration/triple_selection.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/Geometry>
#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <limits>

namespace rotorquant::evaluation::calibration {
namespace {

using Block = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;

// A triple that promises less is not worth its parameters.
constexpr double least_drop = 1e-7;

struct Candidate {
  double drop;
  Triple triple;
};

Block block_of(const Matrix& matrix, const Triple& triple) {
  Block block;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      block(r, c) = matrix(triple[static_cast<std::size_t>(r)], triple[static_cast<std::size_t>(c)]);
    }
  }
  return block;
}

std::vector<Triple> best_triples(const Matrix& keys, const Matrix& queries, double theta) {
  const auto dim = static_cast<std::int32_t>(keys.rows());
  const Vector separate = (keys.diagonal().array() * queries.diagonal().array() + theta).log();
  std::vector<Candidate> candidates;
  for (std::int32_t i = 0; i < dim; ++i) {
    for (std::int32_t j = i + 1; j < dim; ++j) {
      for (std::int32_t k = j + 1; k < dim; ++k) {
        const Triple triple{i, j, k};
        const Block product = block_of(queries, triple) * block_of(keys, triple) + theta * Block::Identity();
        const double determinant = std::max(product.determinant(), std::numeric_limits<double>::min());
        const double drop = separate(i) + separate(j) + separate(k) - std::log(determinant);
        if (drop > least_drop) candidates.push_back({drop, triple});
      }
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.drop > b.drop; });
  std::vector<char> used(static_cast<std::size_t>(dim), 0);
  std::vector<Triple> chosen;
  for (const Candidate& candidate : candidates) {
    const auto is_used = [&](std::int32_t c) { return used[static_cast<std::size_t>(c)] != 0; };
    if (std::any_of(candidate.triple.begin(), candidate.triple.end(), is_used)) continue;
    for (const std::int32_t c : candidate.triple) used[static_cast<std::size_t>(c)] = 1;
    chosen.push_back(candidate.triple);
    if (static_cast<std::int32_t>(chosen.size()) == dim / 3) break;
  }
  return chosen;
}

// matrix <- B matrix B^T with B the block on the rows of the triple.
void pass_through(const Triple& triple, const Block& block, Matrix& matrix) {
  for (Eigen::Index i = 0; i < matrix.cols(); ++i) {
    const Eigen::Vector3d x(matrix(triple[0], i), matrix(triple[1], i), matrix(triple[2], i));
    const Eigen::Vector3d y = block * x;
    for (int r = 0; r < 3; ++r) matrix(triple[static_cast<std::size_t>(r)], i) = y(r);
  }
  for (Eigen::Index i = 0; i < matrix.rows(); ++i) {
    const Eigen::Vector3d x(matrix(i, triple[0]), matrix(i, triple[1]), matrix(i, triple[2]));
    const Eigen::Vector3d y = block * x;
    for (int r = 0; r < 3; ++r) matrix(i, triple[static_cast<std::size_t>(r)]) = y(r);
  }
}

Block rotor_block(const Block& keys) {
  const Eigen::SelfAdjointEigenSolver<Block> solver(keys);
  Block rotation = solver.eigenvectors().transpose();
  if (rotation.determinant() < 0.0) rotation = -rotation;
  return rotation;
}

Block general_block(const Block& keys, const Block& queries) {
  const Block root = Eigen::SelfAdjointEigenSolver<Block>(queries).operatorSqrt();
  const Eigen::SelfAdjointEigenSolver<Block> solver(root * keys * root);
  return solver.eigenvectors().transpose() * root;
}

}  // namespace

CascadeStart greedy_cascade(BlockKind kind, int layers, const Matrix& key_covariance,
                            const Matrix& query_metric, double theta) {
  const Eigen::Index dim = key_covariance.rows();
  Matrix keys = key_covariance;
  Matrix queries = query_metric;
  std::vector<double> parameters;
  if (kind == BlockKind::rotor) {
    // delta makes every coordinate cost the same, so that rotations of keys and of errors agree.
    const Vector delta = query_metric.diagonal().cwiseSqrt();
    keys = delta.asDiagonal() * keys * delta.asDiagonal();
    queries = delta.cwiseInverse().asDiagonal() * queries * delta.cwiseInverse().asDiagonal();
    for (Eigen::Index i = 0; i < dim; ++i) parameters.push_back(std::log(delta(i)));
  }
  CascadeStart start;
  for (int layer = 0; layer < layers; ++layer) {
    std::vector<Triple> triples = best_triples(keys, queries, theta);
    if (triples.empty()) break;
    for (const Triple& triple : triples) {
      Block block;
      Block dual;
      if (kind == BlockKind::rotor) {
        block = rotor_block(block_of(keys, triple));
        dual = block;
        const Eigen::Quaterniond quaternion{Eigen::Matrix3d(block)};
        parameters.insert(parameters.end(), {quaternion.w(), quaternion.x(), quaternion.y(), quaternion.z()});
      } else {
        block = general_block(block_of(keys, triple), block_of(queries, triple));
        dual = block.inverse().transpose();
        parameters.insert(parameters.end(), block.data(), block.data() + 9);
      }
      pass_through(triple, block, keys);
      pass_through(triple, dual, queries);
    }
    start.layers.push_back(std::move(triples));
  }
  start.parameters =
      Eigen::Map<const Vector>(parameters.data(), static_cast<Eigen::Index>(parameters.size()));
  return start;
}

}  // namespace rotorquant::evaluation::calibration
