#pragma once
// A rotation written out as data, so that code outside the rotations (device kernels) can run any of them.
//
//   steps      in this order, each turns up to four coordinates in place: x[index[i]] <- sum_j matrix[4 i + j]
//              x[index[j]]; the transpose runs them backwards with transposed matrices. No step: the identity.
//   hadamard   signs, then H / sqrt(block) on the powers of two of dim, largest first (hadamard.hpp).
//   dense      y = matrix x.
// Where output_dim > input_dim, zeros are appended to x first.
#include <array>
#include <cstdint>
#include <vector>

namespace rotorquant {

struct RotationStep {
  std::array<std::int32_t, 4> index;  // distinct; -1 from the first unused place on
  std::array<float, 16> matrix;       // row-major 4x4; unused rows and columns are 0
};

struct RotationProgram {
  enum class Kind { steps, hadamard, dense };

  Kind kind = Kind::steps;
  std::int64_t input_dim = 0;
  std::int64_t output_dim = 0;
  std::vector<RotationStep> steps;
  std::vector<float> numbers;  // hadamard: signs [dim]; dense: matrix [dim, dim], row-major
  // In which order the CPU adds up a row's products: the one of the diagonal first, or from the first to the
  // last.
  bool diagonal_first = false;
};

}  // namespace rotorquant
