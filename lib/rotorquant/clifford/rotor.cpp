#include "rotorquant/clifford/rotor.hpp"

#include <cmath>
#include <numbers>

#include "rotorquant/core/random.hpp"

namespace rotorquant {

Matrix3 rotation_matrix(const Rotor& rotor) {
  const Multivector r = rotor.multivector();
  Matrix3 matrix{};
  for (std::size_t column = 0; column < 3; ++column) {
    Multivector basis;
    basis[1 + column] = 1.0;
    const Multivector image = sandwich(r, basis);
    for (std::size_t row = 0; row < 3; ++row) matrix[3 * row + column] = image[1 + row];
  }
  return matrix;
}

Rotor rotor_from_bivector(const std::array<double, 3>& bivector, double angle) {
  const double norm =
      std::sqrt(bivector[0] * bivector[0] + bivector[1] * bivector[1] + bivector[2] * bivector[2]);
  const double scale = std::sin(angle / 2.0) / norm;
  return {std::cos(angle / 2.0), scale * bivector[0], scale * bivector[1], scale * bivector[2]};
}

Rotor random_rotor(std::uint64_t seed, std::uint32_t group, RotorSampling sampling) {
  RandomStream stream(seed, Purpose::rotor, group);
  const double a = stream.normal();
  const double b = stream.normal();
  const double c = stream.normal();
  if (sampling == RotorSampling::uniform_angle) {
    return rotor_from_bivector({a, b, c}, 2.0 * std::numbers::pi * stream.uniform());
  }
  const double d = stream.normal();
  const double norm = std::sqrt(a * a + b * b + c * c + d * d);
  return {a / norm, b / norm, c / norm, d / norm};
}

Rotor random_plane_rotor(std::uint64_t seed, std::uint32_t group) {
  RandomStream stream(seed, Purpose::rotor, group);
  return rotor_from_bivector({1.0, 0.0, 0.0}, 2.0 * std::numbers::pi * stream.uniform());
}

}  // namespace rotorquant
