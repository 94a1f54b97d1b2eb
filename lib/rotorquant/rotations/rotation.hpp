#pragma once
// The interface of every rotation: y = R x for each row, R with orthonormal columns.
//
// A rotation maps input_dim() coordinates to output_dim() >= input_dim(). The two differ only where a
// rotation pads (rotor with Tail::pad); R is then an isometry and the transpose drops the padding: R^T R = 1
// always.
#include <cstdint>

#include "rotorquant/codes/plane_codebook.hpp"
#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/view.hpp"
#include "rotorquant/rotations/rotation_program.hpp"

namespace rotorquant {

inline constexpr std::int64_t usual_rows_at_once = 32;

class Rotation {
 public:
  virtual ~Rotation() = default;

  virtual std::int64_t input_dim() const = 0;
  virtual std::int64_t output_dim() const { return input_dim(); }
  // Floating-point numbers that a cache has to keep for this rotation (free parameters, counted once per
  // model).
  virtual std::int64_t stored_floats() const = 0;

  // Rows that callers with many of them best pass in one call: few enough for the first-level cache, or, for
  // matrix products, enough to pay for arranging the matrix.
  virtual std::int64_t rows_at_once() const { return usual_rows_at_once; }

  // x [n, input_dim] -> y [n, output_dim]; x and y do not overlap. Runs on the calling thread: callers own
  // the loop over vectors and pass blocks that stay in the cache. The same bits with every instruction set,
  // but for the sign of a zero among coordinates that a block rotation leaves as they are.
  virtual void apply(HostView<const float> x, HostView<float> y) const = 0;
  // y [n, output_dim] -> x [n, input_dim].
  virtual void apply_transpose(HostView<const float> y, HostView<float> x) const = 0;
  // The same of rows of any type and of vectors that carry a factor, with the bits that scaling in float32 by
  // a pass of its own gives: y(r) = R (factors[r] x(r)), and x(r) = factors[r] R^T y(r) rounded to the type
  // of x. `stream`: see store_scaled(). Here by such passes; rotations with kernels make none.
  virtual void apply_scaled(const ConstHostTensor& x, const float* factors, HostView<float> y) const;
  virtual void apply_transpose_scaled(HostView<const float> y, const float* factors, bool stream,
                                      const HostTensor& x) const;
  // The bit planes (bit_planes.hpp) of the codebook's indices of apply_scaled()'s y at the rows' unit factors
  // (unit_factors.hpp), without leaving the registers, and the norms [n]: planes [n, bits *
  // plane_bytes(output_dim)]. False where a rotation cannot, or not for this type; nothing is done then.
  virtual bool unit_rows_to_planes(const ConstHostTensor& x, float* norms, const PlaneCodebook& codebook,
                                   std::uint8_t* planes) const;
  // The inverse: apply_transpose_scaled() of the centroids of the indices in planes [x.rows, bits *
  // plane_bytes(output_dim)]. False where a rotation or this machine cannot; nothing is done then.
  virtual bool apply_transpose_of_planes(const std::uint8_t* planes, const PlaneCodebook& codebook,
                                         const float* factors, bool stream, const HostTensor& x) const;
  // The same map as data.
  virtual RotationProgram program() const = 0;
};

}  // namespace rotorquant
