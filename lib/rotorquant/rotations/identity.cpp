#include "rotorquant/rotations/identity.hpp"

#include <algorithm>

namespace rotorquant {

void IdentityRotation::apply(HostView<const float> x, HostView<float> y) const {
  std::copy_n(x.data, x.size(), y.data);
}

void IdentityRotation::apply_transpose(HostView<const float> y, HostView<float> x) const {
  std::copy_n(y.data, y.size(), x.data);
}

RotationProgram IdentityRotation::program() const {
  return {RotationProgram::Kind::steps, dim_, dim_, {}, {}};
}

}  // namespace rotorquant
