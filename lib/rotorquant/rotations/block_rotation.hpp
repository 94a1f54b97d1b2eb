#pragma once
// Rotations of consecutive blocks of 2, 3 or 4 coordinates by small orthogonal matrices: the common form of
// givens, rotor and quaternion rotations. `block` multiply-adds a coordinate.
//
// The coordinates left over when `block` does not divide dim:
//   Tail::plane  two of three are turned in the e12 plane, others are left alone: exactly dim outputs (our
//   default); Tail::pad    zeros fill the last block and all outputs are kept (the reference
//   implementations).
#include <array>
#include <vector>

#include "rotorquant/core/isa.hpp"
#include "rotorquant/rotations/rotation.hpp"
#include "rotorquant/rotations/rotation_kernels.hpp"

namespace rotorquant {

enum class Tail { plane, pad };

template <int block>
class BlockRotation final : public Rotation {
 public:
  using Matrix = std::array<float, static_cast<std::size_t>(block* block)>;  // row-major, y = M x

  // matrices: one a whole block, then one for the left-over coordinates if they are to be rotated. Under
  // Tail::plane that last one must keep the coordinates beyond dim apart. stored_floats: see Rotation.
  BlockRotation(std::int64_t dim, Tail tail, const std::vector<Matrix>& matrices, std::int64_t stored_floats,
                Isa isa = active_isa());

  std::int64_t input_dim() const override { return dim_; }
  std::int64_t output_dim() const override { return output_dim_; }
  std::int64_t stored_floats() const override { return stored_floats_; }
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
  std::int64_t dim_;
  std::int64_t output_dim_;
  std::int64_t stored_floats_;
  std::vector<Matrix> matrices_;    // [whole blocks (+ 1)]
  std::vector<Matrix> transposes_;  // the same, transposed
  Isa isa_;
  BlockPlan forward_;  // for AVX-512 and AVX2
  BlockPlan backward_;
};

extern template class BlockRotation<2>;
extern template class BlockRotation<3>;
extern template class BlockRotation<4>;

// Blocks with a matrix of their own: ceil(dim / block) when padding, else the whole blocks and, for rotors, a
// left-over pair.
template <int block>
std::int64_t rotated_block_count(std::int64_t dim, Tail tail);

}  // namespace rotorquant
