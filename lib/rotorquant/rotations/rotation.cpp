#include "rotorquant/rotations/rotation.hpp"

#include "rotorquant/core/isa.hpp"
#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/core/scratch.hpp"

namespace rotorquant {

void Rotation::apply_scaled(const ConstHostTensor& x, const float* factors, HostView<float> y) const {
  static thread_local ScratchFloats scratch;
  float* scaled = scratch.reserve(x.rows * x.cols);
  load_scaled(active_isa(), x, factors, scaled);
  apply({scaled, x.rows, x.cols}, y);
}

void Rotation::apply_transpose_scaled(HostView<const float> y, const float* factors, bool stream,
                                      const HostTensor& x) const {
  static thread_local ScratchFloats scratch;
  float* turned = scratch.reserve(x.rows * x.cols);
  apply_transpose(y, {turned, x.rows, x.cols});
  store_scaled(active_isa(), turned, factors, stream, x);
}

bool Rotation::unit_rows_to_planes(const ConstHostTensor&, float*, const PlaneCodebook&,
                                   std::uint8_t*) const {
  return false;
}

bool Rotation::apply_transpose_of_planes(const std::uint8_t*, const PlaneCodebook&, const float*, bool,
                                         const HostTensor&) const {
  return false;
}

}  // namespace rotorquant
