#include "rotorquant/rotations/givens.hpp"

#include <cmath>
#include <numbers>

#include "rotorquant/core/random.hpp"

namespace rotorquant {

BlockRotation<2> givens_rotation(std::int64_t dim, Tail tail, const std::vector<PlaneRotation>& planes,
                                 Isa isa) {
  std::vector<BlockRotation<2>::Matrix> matrices;
  for (const auto [cosine, sine] : planes) matrices.push_back({cosine, -sine, sine, cosine});
  return {dim, tail, matrices, static_cast<std::int64_t>(planes.size()), isa};
}

BlockRotation<2> random_givens_rotation(std::int64_t dim, Tail tail, std::uint64_t seed, Isa isa) {
  std::vector<PlaneRotation> planes(static_cast<std::size_t>(rotated_block_count<2>(dim, tail)));
  for (std::size_t i = 0; i < planes.size(); ++i) {
    RandomStream stream(seed, Purpose::rotor, static_cast<std::uint32_t>(i));
    const double angle = 2.0 * std::numbers::pi * stream.uniform();
    planes[i] = {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
  }
  return givens_rotation(dim, tail, planes, isa);
}

}  // namespace rotorquant
