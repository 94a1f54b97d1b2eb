#pragma once
// AVX-512 versions of the rotations' inner loops; the plain loops in block_rotation.cpp, hadamard.cpp and
// cascade.cpp define the results, and these give the same bits. Internal to lib/rotorquant/rotations.
#include <array>
#include <cstdint>
#include <vector>

#include "rotorquant/core/view.hpp"

namespace rotorquant {

// Products by small blocks, written as y_c = sum_j coefficient_j,c x_(first of c's block + j), 16 coordinates
// at a time.
struct BlockPlan {
  struct alignas(64) Sixteen {
    std::array<float, 16> values;
  };
  struct alignas(64) Places {
    std::array<std::int32_t, 16> values;
  };
  int block = 0;
  std::int64_t input_dim = 0;
  std::int64_t output_dim = 0;
  std::vector<std::int64_t> windows;  // [chunks]: first input coordinate of the chunk's first block
  std::vector<Places> places;         // [chunks]: first coordinate of each output's block, from the window
  std::vector<Sixteen> coefficients;  // [chunks, block]
};

// x [n, input_dim] -> y [n, output_dim].
void block_rows_avx512(const BlockPlan& plan, HostView<const float> x, HostView<float> y);

// y = H / sqrt(size) (signs * x), or signs * (H / sqrt(size) x) when `transpose`; size a power of two, 16 to
// 256.
void hadamard_avx512(const float* x, const float* signs, std::int64_t size, bool transpose, float* y);

// rows [count, dim], count <= 16 -> columns [dim, 16]; the lanes from count on are zeros.
void to_columns_avx512(const float* rows, std::int64_t count, std::int64_t dim, float* columns);
// The inverse.
void to_rows_avx512(const float* columns, std::int64_t count, std::int64_t dim, float* rows);

// A layer of flat rotors on columns [dim, 16]: triples [count, 3] of coordinates, signs [count, 3].
void flat_triples_avx512(const std::int32_t* triples, const float* signs, std::int64_t count, bool transpose,
                         float* columns);

}  // namespace rotorquant
