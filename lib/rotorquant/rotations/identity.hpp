#pragma once
// No rotation: what rounding to nearest after normalisation does (RTN).
#include "rotorquant/rotations/rotation.hpp"

namespace rotorquant {

class IdentityRotation final : public Rotation {
 public:
  explicit IdentityRotation(std::int64_t dim) : dim_(dim) {}

  std::int64_t input_dim() const override { return dim_; }
  std::int64_t stored_floats() const override { return 0; }
  void apply(HostView<const float> x, HostView<float> y) const override;
  void apply_transpose(HostView<const float> y, HostView<float> x) const override;
  RotationProgram program() const override;

 private:
  std::int64_t dim_;
};

}  // namespace rotorquant
