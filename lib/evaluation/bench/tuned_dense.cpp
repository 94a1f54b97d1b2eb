#include "evaluation/bench/tuned_dense.hpp"

#include <Eigen/Core>

#include "rotorquant/core/isa.hpp"
#include "rotorquant/core/transpose.hpp"
#include "rotorquant/rotations/dense.hpp"

namespace rotorquant::evaluation {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const Matrix>;
using Map = Eigen::Map<Matrix>;

}  // namespace

TunedDenseRotation::TunedDenseRotation(std::int64_t dim, std::uint64_t seed)
    : dim_(dim), matrix_(static_cast<std::size_t>(dim * dim)) {
  // The rotation's images of the unit vectors are the rows of its transpose.
  std::vector<float> identity(matrix_.size());
  for (std::int64_t i = 0; i < dim; ++i) identity[static_cast<std::size_t>(i * dim + i)] = 1.0F;
  DenseRotation::haar(dim, seed).apply_transpose({identity.data(), dim, dim}, {matrix_.data(), dim, dim});
  if (active_isa() != Isa::avx2) return;
  const std::vector<float> transposed = transpose({matrix_.data(), dim, dim});
  panels_ = DensePanels({transposed.data(), dim, dim});
  transpose_panels_ = DensePanels({matrix_.data(), dim, dim});
}

void TunedDenseRotation::apply(HostView<const float> x, HostView<float> y) const {
  if (active_isa() == Isa::avx2) return panels_.multiply(x, y);
  Map(y.data, y.rows, dim_).noalias() =
      ConstMap(x.data, x.rows, dim_) * ConstMap(matrix_.data(), dim_, dim_).transpose();
}

void TunedDenseRotation::apply_transpose(HostView<const float> y, HostView<float> x) const {
  if (active_isa() == Isa::avx2) return transpose_panels_.multiply(y, x);
  Map(x.data, x.rows, dim_).noalias() = ConstMap(y.data, y.rows, dim_) * ConstMap(matrix_.data(), dim_, dim_);
}

}  // namespace rotorquant::evaluation
