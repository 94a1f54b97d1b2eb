#pragma once
// Unit quaternions on groups of four consecutive coordinates, known as IsoQuant. Coordinates are read as w x
// y z.
//   full: y = q_L v conj(q_R), any rotation of R^4;   fast: y = q_L v, an isoclinic one.
#include <optional>
#include <vector>

#include "rotorquant/rotations/block_rotation.hpp"

namespace rotorquant {

using Quaternion = std::array<double, 4>;  // w x y z, unit norm

enum class QuaternionMode { full, fast };

// left: one a group; right: the same number in full mode, absent in fast mode.
BlockRotation<4> quaternion_rotation(std::int64_t dim, Tail tail, const std::vector<Quaternion>& left,
                                     const std::optional<std::vector<Quaternion>>& right,
                                     Isa isa = active_isa());
// Quaternions uniform on the sphere S^3, one stream a group.
BlockRotation<4> random_quaternion_rotation(std::int64_t dim, Tail tail, QuaternionMode mode,
                                            std::uint64_t seed, Isa isa = active_isa());

}  // namespace rotorquant
