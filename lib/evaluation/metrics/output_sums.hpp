#pragma once
// The squares of a row's three output errors (attention.hpp), by the CPU and by a GPU: float64 sums over its
// columns in their order.
#include "rotorquant/core/host_device.hpp"

namespace rotorquant::evaluation {

struct OutputSums {
  double keys = 0.0;    // ‖(p̂ - p) v‖²
  double values = 0.0;  // ‖p Δv‖²
  double all = 0.0;     // of their sum and (p̂ - p) Δv

  // One column: (p̂ - p) v, p Δv and (p̂ - p) Δv.
  ROTORQUANT_HOST_DEVICE void add(float by_keys, float by_values, float by_both) {
    const auto key_part = static_cast<double>(by_keys);
    const auto value_part = static_cast<double>(by_values);
    const double total = key_part + value_part + static_cast<double>(by_both);
    keys += key_part * key_part;
    values += value_part * value_part;
    all += total * total;
  }
};

}  // namespace rotorquant::evaluation
