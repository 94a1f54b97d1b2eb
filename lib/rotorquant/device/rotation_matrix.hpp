#pragma once
// A rotation's matrix, for kernels that multiply by it on the tensor cores.
#include <cstdint>
#include <vector>

#include "rotorquant/rotations/rotation.hpp"

namespace rotorquant::device {

// Matrices times this: the terms that 16-bit numbers split them into stay clear of subnormals.
inline constexpr float tensor_scale = 0x1p10F;

// R, [dim, dim] row-major, by the rotation's own arithmetic.
inline std::vector<float> matrix_of(const Rotation& rotation) {
  const std::int64_t dim = rotation.input_dim();
  const auto size = static_cast<std::size_t>(dim * dim);
  std::vector<float> unit(size, 0.0F), columns(size), matrix(size);
  for (std::int64_t i = 0; i < dim; ++i) unit[static_cast<std::size_t>(i * (dim + 1))] = 1.0F;
  rotation.apply({unit.data(), dim, dim}, {columns.data(), dim, dim});
  for (std::int64_t i = 0; i < dim; ++i) {
    for (std::int64_t j = 0; j < dim; ++j) {
      matrix[static_cast<std::size_t>(i * dim + j)] = columns[static_cast<std::size_t>(j * dim + i)];
    }
  }
  return matrix;
}

}  // namespace rotorquant::device
