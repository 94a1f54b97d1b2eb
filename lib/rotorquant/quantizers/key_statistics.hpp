#pragma once
// What calibrated rivals know of one KV head: plain moments of its keys and queries before RoPE, without
// sinks.
#include <cstdint>
#include <vector>

namespace rotorquant {

struct KeyStatistics {
  std::vector<float> mean;  // [dim] of keys
  std::vector<float>
      components;  // [dim, dim]: principal components of keys less the mean, one a row, orthonormal
  std::vector<float> variances;     // [dim] along them, descending
  std::vector<float> key_energy;    // [dim]: mean square of each channel, the mean included
  std::vector<float> query_energy;  // [dim]: likewise of the head's queries

  std::int64_t dim() const { return static_cast<std::int64_t>(mean.size()); }
  // Throws an Error that names the field unless shapes agree, values are finite and energies are not
  // negative.
  void validate() const;
};

}  // namespace rotorquant
