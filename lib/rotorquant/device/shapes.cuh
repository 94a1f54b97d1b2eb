#pragma once
// What every device quantizer asks of its arguments' shapes.
#include <cstdint>
#include <string>

#include "rotorquant/core/error.hpp"

namespace rotorquant::device {

inline void check_shape(const char* what, std::int64_t rows, std::int64_t cols, std::int64_t count,
                        std::int64_t dim) {
  if (rows == count && cols == dim) return;
  throw Error(std::string(what) + " of " + std::to_string(rows) + " x " + std::to_string(cols) +
              "; valid: " + std::to_string(count) + " x " + std::to_string(dim));
}

}  // namespace rotorquant::device
