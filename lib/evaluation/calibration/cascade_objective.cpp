#include "evaluation/calibration/cascade_objective.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <cmath>

namespace rotorquant::evaluation::calibration {
namespace {

using Block = Eigen::Matrix<double, 3, 3, Eigen::RowMajor>;
using Quaternion = Eigen::Vector4d;  // w x y z

constexpr double eigenvalue_floor = 1e-12;

// The rotation of a quaternion of any length.
Block rotation_of(const Quaternion& quaternion) {
  const Quaternion u = quaternion.normalized();
  const double w = u(0), x = u(1), y = u(2), z = u(3);
  Block r;
  r << 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),  //
      2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),   //
      2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y);
  return r;
}

// Gradient with respect to the quaternion, from the gradient g with respect to the rotation.
Quaternion rotation_gradient(const Quaternion& quaternion, const Block& g) {
  const double length = quaternion.norm();
  const Quaternion u = quaternion / length;
  const double w = u(0), x = u(1), y = u(2), z = u(3);
  Quaternion d;
  d(0) = 2 * (-z * g(0, 1) + y * g(0, 2) + z * g(1, 0) - x * g(1, 2) - y * g(2, 0) + x * g(2, 1));
  d(1) = 2 * (y * g(0, 1) + z * g(0, 2) + y * g(1, 0) - 2 * x * g(1, 1) - w * g(1, 2) + z * g(2, 0) +
              w * g(2, 1) - 2 * x * g(2, 2));
  d(2) = 2 * (-2 * y * g(0, 0) + x * g(0, 1) + w * g(0, 2) + x * g(1, 0) + z * g(1, 2) - w * g(2, 0) +
              z * g(2, 1) - 2 * y * g(2, 2));
  d(3) = 2 * (-2 * z * g(0, 0) - w * g(0, 1) + x * g(0, 2) + w * g(1, 0) - 2 * z * g(1, 1) + y * g(1, 2) +
              x * g(2, 0) + y * g(2, 1));
  return (d - d.dot(u) * u) / length;
}

void multiply_rows(const Triple& triple, const Block& block, Matrix& matrix) {
  double* a = matrix.row(triple[0]).data();
  double* b = matrix.row(triple[1]).data();
  double* c = matrix.row(triple[2]).data();
  for (Eigen::Index i = 0; i < matrix.cols(); ++i) {
    const double x = a[i], y = b[i], z = c[i];
    a[i] = block(0, 0) * x + block(0, 1) * y + block(0, 2) * z;
    b[i] = block(1, 0) * x + block(1, 1) * y + block(1, 2) * z;
    c[i] = block(2, 0) * x + block(2, 1) * y + block(2, 2) * z;
  }
}

// [3, 3]: inner products of the rows `triple` of two matrices.
Block row_products(const Triple& triple, const Matrix& left, const Matrix& right) {
  Block products;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      products(r, c) =
          left.row(triple[static_cast<std::size_t>(r)]).dot(right.row(triple[static_cast<std::size_t>(c)]));
    }
  }
  return products;
}

}  // namespace

double cascade_distortion(const Vector& lambda, const Vector& weights, double theta) {
  return (lambda.array() * weights.array() + theta).log().sum();
}

double water_level(const Vector& eigenvalues, double bits) {
  // The rate falls as theta grows: bisection on log theta, to far below any visible difference.
  constexpr int halvings = 100;
  double low = std::log(eigenvalues.minCoeff()) - 2.0 * std::log(2.0) * (bits + 1.0);
  double high = std::log(eigenvalues.maxCoeff());
  for (int i = 0; i < halvings; ++i) {
    const double middle = 0.5 * (low + high);
    const double rate = ((eigenvalues.array().log() - middle) * (0.5 / std::log(2.0))).cwiseMax(0.0).sum();
    (rate > bits * static_cast<double>(eigenvalues.size()) ? low : high) = middle;
  }
  return std::exp(0.5 * (low + high));
}

Vector product_eigenvalues(const Matrix& key_covariance, const Matrix& query_metric) {
  const Matrix root = query_metric.llt().matrixL();
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(root.transpose() * key_covariance * root,
                                                     Eigen::EigenvaluesOnly);
  return solver.eigenvalues().cwiseMax(eigenvalue_floor);
}

// One layer: its blocks and their inverse transposes, and F and F^-T before it.
struct CascadeObjective::Step {
  std::vector<Block> blocks;
  std::vector<Block> duals;
  Matrix forward;
  Matrix dual;
};

CascadeObjective::CascadeObjective(BlockKind kind, std::vector<std::vector<Triple>> layers,
                                   const Matrix& key_covariance, const Matrix& query_metric, double theta)
    : kind_(kind),
      layers_(std::move(layers)),
      key_covariance_(key_covariance),
      query_metric_(query_metric),
      theta_(theta) {}

Eigen::Index CascadeObjective::num_parameters() const {
  Eigen::Index blocks = 0;
  for (const auto& layer : layers_) blocks += static_cast<Eigen::Index>(layer.size());
  return kind_ == BlockKind::rotor ? key_covariance_.rows() + 4 * blocks : 9 * blocks;
}

double CascadeObjective::operator()(const Vector& parameters, Vector& gradient) const {
  const Eigen::Index dim = key_covariance_.rows();
  const bool rotors = kind_ == BlockKind::rotor;
  const Eigen::Index block_size = rotors ? 4 : 9;
  Matrix forward = Matrix::Identity(dim, dim);
  Matrix dual = Matrix::Identity(dim, dim);
  if (rotors) {
    forward.diagonal() = parameters.head(dim).array().exp();
    dual.diagonal() = (-parameters.head(dim).array()).exp();
  }
  std::vector<Step> steps;
  steps.reserve(layers_.size());
  Eigen::Index offset = rotors ? dim : 0;
  for (const auto& layer : layers_) {
    Step step{{}, {}, forward, dual};
    for (const Triple& triple : layer) {
      Block block;
      Block block_dual;
      if (rotors) {
        block = rotation_of(parameters.segment<4>(offset));
        block_dual = block;
      } else {
        block = Eigen::Map<const Block>(parameters.data() + offset);
        block_dual = block.inverse().transpose();
      }
      multiply_rows(triple, block, forward);
      multiply_rows(triple, block_dual, dual);
      step.blocks.push_back(block);
      step.duals.push_back(block_dual);
      offset += block_size;
    }
    steps.push_back(std::move(step));
  }

  // d J / d F = 2 diag(w / (lambda w + theta)) F S_k, and likewise for F^-T with lambda and S_q.
  Matrix forward_gradient = forward * key_covariance_;
  Matrix dual_gradient = dual * query_metric_;
  const Vector lambda = forward_gradient.cwiseProduct(forward).rowwise().sum();
  const Vector weights = dual_gradient.cwiseProduct(dual).rowwise().sum();
  const Vector share = (lambda.array() * weights.array() + theta_).inverse();
  forward_gradient.array().colwise() *= 2.0 * weights.array() * share.array();
  dual_gradient.array().colwise() *= 2.0 * lambda.array() * share.array();

  gradient.resize(num_parameters());
  for (std::size_t l = layers_.size(); l-- > 0;) {
    const Step& step = steps[l];
    offset -= block_size * static_cast<Eigen::Index>(layers_[l].size());
    for (std::size_t g = 0; g < layers_[l].size(); ++g) {
      const Triple& triple = layers_[l][g];
      const Block of_block = row_products(triple, forward_gradient, step.forward);
      const Block of_dual = row_products(triple, dual_gradient, step.dual);
      const Eigen::Index at = offset + block_size * static_cast<Eigen::Index>(g);
      if (rotors) {
        gradient.segment<4>(at) = rotation_gradient(parameters.segment<4>(at), of_block + of_dual);
      } else {
        // d (B^-T) = -B^-T dB^T B^-T.
        const Block& inverse_transpose = step.duals[g];
        Eigen::Map<Block>(gradient.data() + at) =
            of_block - inverse_transpose * of_dual.transpose() * inverse_transpose;
      }
      multiply_rows(triple, step.blocks[g].transpose(), forward_gradient);
      multiply_rows(triple, step.duals[g].transpose(), dual_gradient);
    }
  }
  if (rotors) {
    gradient.head(dim) = forward_gradient.diagonal().array() * parameters.head(dim).array().exp() -
                         dual_gradient.diagonal().array() * (-parameters.head(dim).array()).exp();
  }
  return cascade_distortion(lambda, weights, theta_);
}

BlockCascade CascadeObjective::cascade(const Vector& parameters) const {
  const Eigen::Index dim = key_covariance_.rows();
  const bool rotors = kind_ == BlockKind::rotor;
  BlockCascade result;
  result.kind = kind_;
  result.delta.assign(static_cast<std::size_t>(dim), 1.0F);
  Eigen::Index offset = 0;
  if (rotors) {
    for (; offset < dim; ++offset) {
      result.delta[static_cast<std::size_t>(offset)] = static_cast<float>(std::exp(parameters(offset)));
    }
  }
  for (const auto& layer : layers_) {
    TripleLayer stored{layer, {}};
    for (std::size_t g = 0; g < layer.size(); ++g) {
      const Block block = rotors ? rotation_of(parameters.segment<4>(offset))
                                 : Block(Eigen::Map<const Block>(parameters.data() + offset));
      offset += rotors ? 4 : 9;
      std::array<float, 9>& out = stored.blocks.emplace_back();
      for (std::size_t i = 0; i < 9; ++i) out[i] = static_cast<float>(block.data()[i]);
    }
    result.layers.push_back(std::move(stored));
  }
  return result;
}

}  // namespace rotorquant::evaluation::calibration
