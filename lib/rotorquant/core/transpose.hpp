#pragma once
#include <vector>

#include "rotorquant/core/view.hpp"

namespace rotorquant {

// x [n, k] -> [k, n], row-major.
inline std::vector<float> transpose(HostView<const float> x) {
  std::vector<float> out(static_cast<std::size_t>(x.size()));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t c = 0; c < x.cols; ++c) out[static_cast<std::size_t>(c * x.rows + r)] = x.row(r)[c];
  }
  return out;
}

}  // namespace rotorquant
