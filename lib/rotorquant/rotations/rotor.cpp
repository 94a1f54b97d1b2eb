#include "rotorquant/rotations/rotor.hpp"

#include <algorithm>

#include "rotorquant/core/error.hpp"

namespace rotorquant {

BlockRotation<3> rotor_rotation(std::int64_t dim, Tail tail, const std::vector<Rotor>& rotors, Isa isa) {
  const bool ends_in_plane = tail == Tail::plane && dim % 3 == 2;
  if (ends_in_plane && !rotors.empty() && (rotors.back().e13 != 0.0 || rotors.back().e23 != 0.0)) {
    throw Error("rotor rotation of dim " + std::to_string(dim) +
                ": the last rotor turns two coordinates; valid: one with e13 = e23 = 0");
  }
  std::vector<BlockRotation<3>::Matrix> matrices;
  for (const Rotor& rotor : rotors) {
    const Matrix3 exact = rotation_matrix(rotor);
    BlockRotation<3>::Matrix& rounded = matrices.emplace_back();
    std::transform(exact.begin(), exact.end(), rounded.begin(),
                   [](double v) { return static_cast<float>(v); });
  }
  // A unit quaternion has three free numbers, a rotor in a plane one.
  const auto stored = 3 * static_cast<std::int64_t>(rotors.size()) - (ends_in_plane ? 2 : 0);
  return {dim, tail, matrices, stored, isa};
}

BlockRotation<3> random_rotor_rotation(std::int64_t dim, Tail tail, RotorSampling sampling,
                                       std::uint64_t seed, Isa isa) {
  std::vector<Rotor> rotors;
  for (std::int64_t g = 0; g < rotated_block_count<3>(dim, tail); ++g) {
    const bool in_plane = tail == Tail::plane && 3 * g + 3 > dim;
    const auto group = static_cast<std::uint32_t>(g);
    rotors.push_back(in_plane ? random_plane_rotor(seed, group) : random_rotor(seed, group, sampling));
  }
  return rotor_rotation(dim, tail, rotors, isa);
}

}  // namespace rotorquant
