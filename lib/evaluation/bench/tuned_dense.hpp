#pragma once
// The dense rotation at its fastest: a matrix product with fused multiply-adds in an order of its own, where
// the library's dense rotation fixes the order of sums. Eigen's, but with AVX2 one whose matrix is arranged
// once. A rival for benchmarks: its codes may differ where a coordinate lies within rounding of a boundary.
#include <cstdint>
#include <vector>

#include "evaluation/bench/dense_panels_avx2.hpp"
#include "rotorquant/rotations/rotation.hpp"

namespace rotorquant::evaluation {

class TunedDenseRotation final : public Rotation {
 public:
  // The Haar rotation of this seed.
  TunedDenseRotation(std::int64_t dim, std::uint64_t seed);

  std::int64_t input_dim() const override { return dim_; }
  std::int64_t stored_floats() const override { return dim_ * dim_; }
  std::int64_t rows_at_once() const override { return 256; }
  void apply(HostView<const float> x, HostView<float> y) const override;
  void apply_transpose(HostView<const float> y, HostView<float> x) const override;
  RotationProgram program() const override { return {RotationProgram::Kind::dense, dim_, dim_, {}, matrix_}; }

 private:
  std::int64_t dim_;
  std::vector<float> matrix_;              // [dim, dim] row-major, y = matrix x
  DensePanels panels_, transpose_panels_;  // of both directions, with AVX2
};

}  // namespace rotorquant::evaluation
