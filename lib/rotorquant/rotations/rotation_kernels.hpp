#pragma once
// AVX-512 and AVX2 versions of the rotations' inner loops; the plain loops in block_rotation.cpp,
// hadamard.cpp and cascade.cpp define the results, and these give the same bits. Internal to
// lib/rotorquant/rotations.
#include <array>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "rotorquant/codes/plane_codebook.hpp"
#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant {

// The place in a block of the j-th factor of its coordinate c: first the coordinate itself, then the others
// in order. Sums are formed in this order, so that kernels need not fetch a coordinate from itself.
constexpr int block_factor(int c, int j) {
  return j == 0 ? c : j <= c ? j - 1 : j;
}

// Products by small blocks, written as y_c = sum_j coefficient_j,c x_(factor j of c).
struct BlockPlan {
  struct alignas(64) Sixteen {
    std::array<float, 16> values;
  };
  int block = 0;
  std::int64_t input_dim = 0;
  std::int64_t output_dim = 0;
  std::vector<Sixteen> coefficients;  // [ceil(output_dim / 16), block]
};

// x [n, input_dim] -> y [n, output_dim]; the others do what Rotation's functions of these arguments do.
void block_rows_avx2(const BlockPlan& plan, HostView<const float> x, HostView<float> y);
void block_rows_avx2(const BlockPlan& plan, const ConstHostTensor& x, const float* factors,
                     HostView<float> y);
void block_rows_avx2(const BlockPlan& plan, const ConstHostTensor& x, float* norms,
                     const PlaneCodebook& codebook, std::uint8_t* planes);
void block_rows_avx2(const BlockPlan& plan, HostView<const float> x, const float* factors, bool stream,
                     const HostTensor& y);
void block_rows_avx2(const BlockPlan& plan, const std::uint8_t* planes, const PlaneCodebook& codebook,
                     const float* factors, bool stream, const HostTensor& y);

void block_rows_avx512(const BlockPlan& plan, HostView<const float> x, HostView<float> y);
void block_rows_avx512(const BlockPlan& plan, const ConstHostTensor& x, const float* factors,
                       HostView<float> y);
void block_rows_avx512(const BlockPlan& plan, const ConstHostTensor& x, float* norms,
                       const PlaneCodebook& codebook, std::uint8_t* planes);
void block_rows_avx512(const BlockPlan& plan, HostView<const float> x, const float* factors, bool stream,
                       const HostTensor& y);
// nibbles [y.rows, nibble_bytes(input_dim)].
void block_rows_avx512(const BlockPlan& plan, const std::uint8_t* nibbles, const PlaneCodebook& codebook,
                       const float* factors, bool stream, const HostTensor& y);

// In-place H / sqrt(size) of data [size], size a power of two from 8 on.
inline constexpr std::int64_t least_hadamard_avx2 = 8;
void hadamard_transform_avx2(float* data, std::int64_t size);

// y = H / sqrt(block) (signs * x) on the powers of two of dim, largest first, or signs * (H / sqrt(block) x)
// when `transpose`; signs [dim].
constexpr bool hadamard_in_registers(std::int64_t dim) {
  return dim % 16 == 0 && dim < 512;
}
void hadamard_rows_avx2(const float* signs, bool transpose, HostView<const float> x, HostView<float> y);
void hadamard_rows_avx2(const float* signs, const ConstHostTensor& x, const float* factors,
                        HostView<float> y);
void hadamard_rows_avx2(const float* signs, const ConstHostTensor& x, float* norms,
                        const PlaneCodebook& codebook, std::uint8_t* planes);
void hadamard_rows_avx2(const float* signs, HostView<const float> y, const float* factors, bool stream,
                        const HostTensor& x);
void hadamard_rows_avx2(const float* signs, const std::uint8_t* planes, const PlaneCodebook& codebook,
                        const float* factors, bool stream, const HostTensor& x);
void hadamard_rows_avx512(const float* signs, bool transpose, HostView<const float> x, HostView<float> y);
void hadamard_rows_avx512(const float* signs, const ConstHostTensor& x, const float* factors,
                          HostView<float> y);
void hadamard_rows_avx512(const float* signs, const ConstHostTensor& x, float* norms,
                          const PlaneCodebook& codebook, std::uint8_t* planes);
void hadamard_rows_avx512(const float* signs, HostView<const float> y, const float* factors, bool stream,
                          const HostTensor& x);
void hadamard_rows_avx512(const float* signs, const std::uint8_t* nibbles, const PlaneCodebook& codebook,
                          const float* factors, bool stream, const HostTensor& x);

// Vectors of one group of columns: a 512-bit register of floats, or two of 256 bits.
inline constexpr std::int64_t column_lanes = 16;
// From the columns of a group to those of the next, in floats: a line more than the columns take, so that the
// same coordinates of two groups are not the same lines of the cache.
constexpr std::int64_t column_group_pitch(std::int64_t dim) {
  return (dim + 1) * column_lanes;
}
inline constexpr std::int64_t most_column_groups = 2;

// A layer of flat rotors: its triples, those of the same kind (the four sign patterns in cascade.cpp)
// together, then a plane that is turned, or none.
struct FlatLayer {
  std::array<std::int64_t, 4> counts{};  // triples of each kind
  std::vector<std::int32_t> places;      // [count, 3]: where the coordinates' columns begin
  std::vector<std::int32_t> left;        // the same of up to two coordinates that no triple takes
  bool plane = false;                    // of those two: (a, b) -> (cosine a - sine b, sine a + cosine b)
  float cosine = 1.0F;
  float sine = 0.0F;
};

// What cascades do with columns.
struct ColumnKernels {
  // factors[r] x(r) of x [n, dim], n <= column_lanes -> columns [dim, column_lanes]; the lanes from n on are
  // zeros or copies of the last vector.
  void (*to_columns)(const ConstHostTensor& x, const float* factors, float* columns);
  // x [n, dim] -> columns as they are, with the rows' norms [n] and unit factors [column_lanes].
  void (*unit_rows_to_columns)(const ConstHostTensor& x, float* norms, float* factors, float* columns);
  // columns -> rows [n, dim], each times its factor.
  void (*to_rows)(const float* columns, const float* factors, const HostTensor& rows);
  // Bit planes of the codebook's indices of `count` vectors: columns -> planes [count, bits *
  // plane_bytes(dim)].
  void (*to_planes)(const float* columns, std::int64_t count, std::int64_t dim, const PlaneCodebook& codebook,
                    std::uint8_t* planes);
  // The inverse, of indices to their centroids; null where there is none.
  void (*from_planes)(const std::uint8_t* planes, std::int64_t count, std::int64_t dim,
                      const PlaneCodebook& codebook, float* columns);
  // The columns of `groups` <= most_column_groups groups in place, which begin at multiples of `pitch`: two
  // at a time, so that a layer does not wait for what the one before has just written. Vectors times their
  // factors [groups, column_lanes] first, unless null (of the transpose, always).
  void (*flat_layer)(const FlatLayer& layer, bool transpose, const float* factors, std::int64_t groups,
                     std::int64_t pitch, float* columns);
};

// What the tables of ColumnKernels in cascade.cpp point at.
std::remove_pointer_t<decltype(ColumnKernels::to_columns)> to_columns_avx2, to_columns_avx512;
std::remove_pointer_t<decltype(ColumnKernels::unit_rows_to_columns)> unit_rows_to_columns_avx2,
    unit_rows_to_columns_avx512;
std::remove_pointer_t<decltype(ColumnKernels::to_rows)> to_rows_avx2, to_rows_avx512;
std::remove_pointer_t<decltype(ColumnKernels::to_planes)> columns_to_planes_avx2, columns_to_planes_avx512;
std::remove_pointer_t<decltype(ColumnKernels::from_planes)> planes_to_columns_avx2;
std::remove_pointer_t<decltype(ColumnKernels::flat_layer)> flat_layer_avx2, flat_layer_avx512;

}  // namespace rotorquant
