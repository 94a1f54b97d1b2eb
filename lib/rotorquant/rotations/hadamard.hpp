#pragma once
// The randomised Hadamard rotation: random sign flips, then H / sqrt(block). For a dim that is not a power of
// two, the coordinates are cut into the powers of two of its binary form, largest first (80 = 64 + 16), never
// padded. Source: Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform" (2009); known as RHT, and
// used in QuaRot.
#include <vector>

#include "rotorquant/core/isa.hpp"
#include "rotorquant/rotations/rotation.hpp"

namespace rotorquant {

class HadamardRotation final : public Rotation {
 public:
  // signs [dim], each +1 or -1.
  HadamardRotation(std::int64_t dim, std::vector<float> signs, Isa isa = active_isa());
  static HadamardRotation random(std::int64_t dim, std::uint64_t seed, Isa isa = active_isa());

  std::int64_t input_dim() const override { return dim_; }
  std::int64_t stored_floats() const override { return dim_; }
  void apply(HostView<const float> x, HostView<float> y) const override;
  void apply_transpose(HostView<const float> y, HostView<float> x) const override;
  void apply_scaled(const ConstHostTensor& x, const float* factors, HostView<float> y) const override;
  void apply_transpose_scaled(HostView<const float> y, const float* factors, bool stream,
                              const HostTensor& x) const override;
  bool unit_rows_to_planes(const ConstHostTensor& x, float* norms, const PlaneCodebook& codebook,
                           std::uint8_t* planes) const override;
  bool apply_transpose_of_planes(const std::uint8_t* planes, const PlaneCodebook& codebook,
                                 const float* factors, bool stream, const HostTensor& x) const override;
  RotationProgram program() const override;

 private:
  void transform_block(const float* x, std::int64_t offset, std::int64_t size, bool transpose,
                       float* y) const;
  // Whether kernels of this instruction set take whole rows here.
  bool in_registers(Isa isa) const;

  std::int64_t dim_;
  std::vector<float> signs_;
  Isa isa_;
};

// In-place H / sqrt(size) of data [size], size a power of two; butterflies from stride 1 upwards, then the
// scale.
void hadamard_transform(float* data, std::int64_t size);

}  // namespace rotorquant
