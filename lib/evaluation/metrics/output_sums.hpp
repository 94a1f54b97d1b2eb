#pragma once
// The squares of a row's three output errors (attention.hpp), in the same order by the CPU and by a GPU: lane
// c mod 8 adds up its columns c in float64, then the lanes are added up.
#include <cstdint>

#include "rotorquant/core/host_device.hpp"

namespace rotorquant::evaluation {

inline constexpr std::int64_t output_lanes = 8;

// Numbers: float64, or a vector of them.
template <typename Numbers>
struct OutputLanes {
  Numbers keys = {};    // ‖(p̂ - p) v‖²
  Numbers values = {};  // ‖p Δv‖²
  Numbers all = {};     // of their sum and (p̂ - p) Δv

  // (p̂ - p) v, p Δv and (p̂ - p) Δv of a column, or of as many as there are numbers.
  ROTORQUANT_HOST_DEVICE void add(const Numbers& by_keys, const Numbers& by_values, const Numbers& by_both) {
    const Numbers total = by_keys + by_values + by_both;
    keys += by_keys * by_keys;
    values += by_values * by_values;
    all += total * total;
  }
};

struct OutputSums {
  double keys = 0.0;
  double values = 0.0;
  double all = 0.0;

  ROTORQUANT_HOST_DEVICE void add(const OutputSums& lane) {
    keys += lane.keys;
    values += lane.values;
    all += lane.all;
  }
};

}  // namespace rotorquant::evaluation
