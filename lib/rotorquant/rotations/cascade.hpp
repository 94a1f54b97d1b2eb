#pragma once
// A cascade of rotor layers: each turns triples of coordinates by rotors, and a fixed shuffle between layers
// decides which coordinates meet. A few layers mix all dim coordinates, for any dim, at 3 multiply-adds
// (flat: about 2 operations) a coordinate and layer.
//
// Order o_0 = 0..dim-1; a layer rotates consecutive triples of the current order, which is then shuffled:
// dealt into three piles, o <- o[0::3] | o[1::3] | o[2::3], or by a stride where the deal mixes badly
// (cascade_shuffle.hpp). Coordinates keep their places: the orders say which of them a rotor takes. What is
// left at the end of an order: one coordinate is passed on, two are turned in their plane.
//
// flat rotors: the half-turn about the diagonal, quaternion (0,1,1,1)/sqrt(3), times one of 1, i, j, k drawn
// at random. As a matrix: flip the signs of an even number of the three coordinates, then y_i = 2/3 (x_1 +
// x_2 + x_3) - x_i. Its entries, 1/3 and 2/3 in magnitude, are the flattest a 3x3 rotation can have, and it
// is stored in 2 bits. A plane turns by an odd multiple of 45 degrees. haar rotors: uniform on the rotations
// of R^3; they need more layers for the same mixing.
#include <cstdint>
#include <vector>

#include "rotorquant/core/isa.hpp"
#include "rotorquant/rotations/rotation.hpp"
#include "rotorquant/rotations/rotation_kernels.hpp"

namespace rotorquant {

enum class CascadeRotors { flat, haar };

// ceil(log3 dim) + 1: every coordinate reaches every other, and once more.
std::int64_t default_cascade_layers(std::int64_t dim);

class CascadeRotation final : public Rotation {
 public:
  // layers >= 1. One stream of random numbers a layer.
  CascadeRotation(std::int64_t dim, std::int64_t layers, CascadeRotors rotors, std::uint64_t seed,
                  Isa isa = active_isa());

  std::int64_t input_dim() const override { return dim_; }
  // Haar: three numbers a rotor and one a plane. Flat: 2 bits a rotor and plane, counted in whole 32-bit
  // numbers.
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
  // One rotor on the coordinates a, b, c.
  struct Triple {
    std::int32_t a, b, c;
    float matrix[9];  // row-major; flat rotors use `signs` instead
    float signs[3];
  };
  // A turn of the coordinates a, b: (a, b) -> (cosine a - sine b, sine a + cosine b).
  struct Plane {
    std::int32_t a, b;
    float cosine, sine;
  };
  struct Layer {
    std::vector<Triple> triples;
    std::vector<Plane> planes;  // none or one
    FlatLayer flat;             // the triples of flat rotors, for kernels
  };

  struct Memory {
    const std::uint8_t* data = nullptr;
    std::int64_t bytes = 0;
  };
  static FlatLayer flat_layer(const std::vector<Triple>& triples);
  template <int lanes>
  void turn_triples(const Layer& layer, bool transpose, float* block) const;
  template <int lanes>
  static void turn_planes(const Layer& layer, bool transpose, float* block);
  void run(const float* factors, std::int64_t groups, bool transpose, const Memory& ahead,
           float* columns) const;
  template <typename Load, typename Store>
  void run_blocks(std::int64_t rows, bool transpose, const Memory& in, const Load& load,
                  const Store& store) const;
  void run_rows(HostView<const float> in, HostView<float> out, bool transpose) const;

  std::int64_t dim_;
  CascadeRotors rotors_;
  const ColumnKernels* kernels_;  // null: the plain loops
  std::vector<Layer> layers_;
  std::int64_t stored_floats_ = 0;
};

}  // namespace rotorquant
