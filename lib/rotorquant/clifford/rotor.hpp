#pragma once
// Rotors of Cl(3,0): R = cos(angle/2) + sin(angle/2) B, B a unit bivector, R reverse(R) = 1. The sandwich R x
// reverse(R) of a vector x is a proper rotation of R^3.
#include <array>
#include <cstdint>

#include "rotorquant/clifford/multivector.hpp"

namespace rotorquant {

// Unit norm: scalar^2 + e12^2 + e13^2 + e23^2 = 1.
struct Rotor {
  double scalar = 1.0;
  double e12 = 0.0;
  double e13 = 0.0;
  double e23 = 0.0;

  constexpr Multivector multivector() const { return {{scalar, 0.0, 0.0, 0.0, e12, e13, e23, 0.0}}; }
};

// Row-major 3x3 matrix M with M x = R x reverse(R).
using Matrix3 = std::array<double, 9>;
Matrix3 rotation_matrix(const Rotor& rotor);

// Normalises the bivector [e12 e13 e23]; angle in radians.
Rotor rotor_from_bivector(const std::array<double, 3>& bivector, double angle);

enum class RotorSampling {
  uniform_angle,  // bivector of three normals, angle uniform in [0, 2 pi): the law of the reference
                  // implementation
  haar,           // a normalised quaternion of four normals: the uniform law on rotations
};

// The rotor of group `group` for `seed`; a stream of its own for every group (core/random.hpp,
// Purpose::rotor).
Rotor random_rotor(std::uint64_t seed, std::uint32_t group, RotorSampling sampling);

// A rotor in the e12 plane with the angle of that stream: for two coordinates left over by groups of three.
Rotor random_plane_rotor(std::uint64_t seed, std::uint32_t group);

}  // namespace rotorquant
