#include "rotorquant/rotations/dense.hpp"

#include <Eigen/QR>
#include <utility>

#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {

DenseRotation::DenseRotation(std::int64_t dim, std::vector<float> matrix)
    : dim_(dim), matrix_(std::move(matrix)) {
  if (static_cast<std::int64_t>(matrix_.size()) != dim * dim) {
    throw Error("dense rotation: " + std::to_string(matrix_.size()) +
                " entries; valid: dim * dim = " + std::to_string(dim * dim));
  }
  transpose_.resize(matrix_.size());
  for (std::int64_t i = 0; i < dim; ++i) {
    for (std::int64_t j = 0; j < dim; ++j) {
      transpose_[static_cast<std::size_t>(j * dim + i)] = matrix_[static_cast<std::size_t>(i * dim + j)];
    }
  }
}

DenseRotation DenseRotation::haar(std::int64_t dim, std::uint64_t seed) {
  RandomStream stream(seed, Purpose::dense_rotation);
  Eigen::MatrixXd gaussian(dim, dim);
  for (std::int64_t i = 0; i < dim; ++i) {
    for (std::int64_t j = 0; j < dim; ++j) gaussian(i, j) = stream.normal();
  }
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(gaussian);
  const Eigen::MatrixXd q = qr.householderQ();
  std::vector<float> matrix(static_cast<std::size_t>(dim * dim));
  for (std::int64_t j = 0; j < dim; ++j) {
    const double sign = qr.matrixQR()(j, j) < 0.0 ? -1.0 : 1.0;
    for (std::int64_t i = 0; i < dim; ++i) {
      matrix[static_cast<std::size_t>(i * dim + j)] = static_cast<float>(sign * q(i, j));
    }
  }
  return {dim, std::move(matrix)};
}

void DenseRotation::apply(HostView<const float> x, HostView<float> y) const {
  dense_product(x, {transpose_.data(), dim_, dim_}, y);
}

void DenseRotation::apply_transpose(HostView<const float> y, HostView<float> x) const {
  dense_product(y, {matrix_.data(), dim_, dim_}, x);
}

RotationProgram DenseRotation::program() const {
  return {RotationProgram::Kind::dense, dim_, dim_, {}, matrix_};
}

}  // namespace rotorquant
