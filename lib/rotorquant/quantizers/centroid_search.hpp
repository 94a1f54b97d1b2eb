#pragma once
// The centroid nearest to a key, by float64. Internal to lib/rotorquant/quantizers.
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/core/isa.hpp"

namespace rotorquant {

class CentroidSearch {
 public:
  CentroidSearch() = default;
  // centroids [count, dim], shift h [dim].
  CentroidSearch(std::span<const float> centroids, std::span<const float> shift);

  // Of x, given x - h [dim]: the centroid of least squared_distance (level_search.hpp), the first of equals;
  // among all, or among those whose bits `candidates` has.
  std::int32_t nearest(Isa isa, const float* shifted) const;
  std::int32_t nearest(Isa isa, const float* shifted, std::uint32_t candidates) const;

 private:
  double distance(Isa isa, const float* shifted, std::int64_t k) const;

  std::int64_t dim_ = 0;
  std::vector<float> centroids_;  // [count, dim]
  std::vector<float> shift_;      // [dim]
};

}  // namespace rotorquant
