#pragma once
// Rotors of Cl(3,0) on groups of three consecutive coordinates, the rotation of RotorQuant: y = R x
// reverse(R), applied as a 3x3 matrix, 9 multiply-adds a group.
#include <vector>

#include "rotorquant/clifford/rotor.hpp"
#include "rotorquant/rotations/block_rotation.hpp"

namespace rotorquant {

// rotors: one a group. Tail::pad: ceil(dim / 3). Tail::plane: floor(dim / 3), and one more of the form cos +
// sin e12 when dim mod 3 is 2.
BlockRotation<3> rotor_rotation(std::int64_t dim, Tail tail, const std::vector<Rotor>& rotors,
                                Isa isa = active_isa());
BlockRotation<3> random_rotor_rotation(std::int64_t dim, Tail tail, RotorSampling sampling,
                                       std::uint64_t seed, Isa isa = active_isa());

}  // namespace rotorquant
