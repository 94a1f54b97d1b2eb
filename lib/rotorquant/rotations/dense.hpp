#pragma once
// A dense orthogonal matrix: dim multiply-adds a coordinate. With a Haar-random matrix this is TurboQuant's
// rotation (Zandieh et al., "TurboQuant: online vector quantization with near-optimal distortion rate", arXiv
// 2504.19874).
#include <vector>

#include "rotorquant/rotations/rotation.hpp"

namespace rotorquant {

class DenseRotation final : public Rotation {
 public:
  // matrix [dim, dim] row-major, y = matrix x.
  DenseRotation(std::int64_t dim, std::vector<float> matrix);
  // Haar law: the Q of a Gaussian matrix's QR decomposition with the diagonal of R made positive (Mezzadri,
  // "How to generate random matrices from the classical compact groups", 2007), computed in float64.
  static DenseRotation haar(std::int64_t dim, std::uint64_t seed);

  std::int64_t input_dim() const override { return dim_; }
  std::int64_t stored_floats() const override { return dim_ * dim_; }
  std::int64_t rows_at_once() const override { return 64; }
  void apply(HostView<const float> x, HostView<float> y) const override;
  void apply_transpose(HostView<const float> y, HostView<float> x) const override;
  RotationProgram program() const override;

 private:
  std::int64_t dim_;
  std::vector<float> matrix_;     // [dim, dim]
  std::vector<float> transpose_;  // [dim, dim]
};

}  // namespace rotorquant
