#pragma once
#include <cstdint>

namespace rotorquant {

// Sum of x[i] y[i] in float64 over eight running sums, lane i mod 8, added pairwise at the end: an order that
// vector units can follow exactly.
inline double dot_product(const float* x, const float* y, std::int64_t count) {
  double lanes[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (std::int64_t lane = 0; lane < 8; ++lane) {
      lanes[lane] += static_cast<double>(x[i + lane]) * static_cast<double>(y[i + lane]);
    }
  }
  for (; i < count; ++i) lanes[i % 8] += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

inline double squared_norm(const float* x, std::int64_t count) {
  return dot_product(x, x, count);
}

}  // namespace rotorquant
