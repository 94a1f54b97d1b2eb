#include "rotorquant/quantizers/centroid_search.hpp"

#include <bit>
#include <limits>

#include "rotorquant/quantizers/level_search.hpp"

namespace rotorquant {

CentroidSearch::CentroidSearch(std::span<const float> centroids, std::span<const float> shift)
    : dim_(std::ssize(shift)),
      centroids_(centroids.begin(), centroids.end()),
      shift_(shift.begin(), shift.end()) {}

double CentroidSearch::distance(Isa isa, const float* shifted, std::int64_t k) const {
  return squared_distance(isa, shifted, centroids_.data() + k * dim_, shift_.data(), dim_);
}

std::int32_t CentroidSearch::nearest(Isa isa, const float* shifted) const {
  std::int32_t nearest = 0;
  double shortest = std::numeric_limits<double>::infinity();
  for (std::int64_t k = 0; k < std::ssize(centroids_) / dim_; ++k) {
    const double own = distance(isa, shifted, k);
    if (!(own < shortest)) continue;
    shortest = own;
    nearest = static_cast<std::int32_t>(k);
  }
  return nearest;
}

std::int32_t CentroidSearch::nearest(Isa isa, const float* shifted, std::uint32_t candidates) const {
  std::int32_t nearest = std::countr_zero(candidates);
  if (std::has_single_bit(candidates)) return nearest;
  double shortest = std::numeric_limits<double>::infinity();
  for (; candidates != 0; candidates &= candidates - 1) {
    const std::int32_t k = std::countr_zero(candidates);
    const double own = distance(isa, shifted, k);
    if (!(own < shortest)) continue;
    shortest = own;
    nearest = k;
  }
  return nearest;
}

}  // namespace rotorquant
