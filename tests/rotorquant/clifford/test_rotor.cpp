#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "rotorquant/clifford/reference_table.hpp"
#include "rotorquant/clifford/rotor.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

constexpr double rounding = 1e-13;

double determinant(const Matrix3& m) {
  return m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) +
         m[2] * (m[3] * m[7] - m[4] * m[6]);
}

void expect_proper_rotation(const Rotor& rotor) {
  EXPECT_NEAR(norm_squared(rotor.multivector()), 1.0, rounding);
  const Matrix3 m = rotation_matrix(rotor);
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      const double product = m[i] * m[j] + m[3 + i] * m[3 + j] + m[6 + i] * m[6 + j];
      EXPECT_NEAR(product, i == j ? 1.0 : 0.0, rounding);
    }
  }
  EXPECT_NEAR(determinant(m), 1.0, rounding);
}

TEST(Rotor, EverySampledRotorIsAProperRotation) {
  for (std::uint32_t group = 0; group < 100; ++group) {
    expect_proper_rotation(random_rotor(1, group, RotorSampling::uniform_angle));
    expect_proper_rotation(random_rotor(1, group, RotorSampling::haar));
    expect_proper_rotation(random_plane_rotor(1, group));
  }
}

TEST(Rotor, TurnsByItsAngleInItsPlane) {
  // e12 with angle a takes e1 to cos(a) e1 - sin(a) e2: R x reverse(R) with R = cos(a/2) + sin(a/2) e12.
  const double angle = 0.7;
  const Matrix3 m = rotation_matrix(rotor_from_bivector({2.0, 0.0, 0.0}, angle));
  const Matrix3 expected = {
      std::cos(angle), std::sin(angle), 0.0, -std::sin(angle), std::cos(angle), 0.0, 0.0, 0.0, 1.0};
  for (std::size_t i = 0; i < 9; ++i) EXPECT_NEAR(m[i], expected[i], rounding) << i;
}

TEST(Rotor, SandwichOfAVectorIsAVector) {
  RandomStream stream(1, Purpose::synthetic);
  for (std::uint32_t group = 0; group < 20; ++group) {
    Multivector x;
    for (std::size_t i = 1; i <= 3; ++i) x[i] = stream.normal();
    const Multivector y = sandwich(random_rotor(1, group, RotorSampling::haar).multivector(), x);
    for (const std::size_t i : {0, 4, 5, 6, 7}) EXPECT_NEAR(y[i], 0.0, rounding);
    EXPECT_NEAR(norm_squared(y), norm_squared(x), 10 * rounding);
  }
}

// trace = 1 + 2 cos(angle): mean 1 when the angle is uniform, 0 under the uniform law on rotations.
TEST(Rotor, SamplingFollowsTheNamedLaw) {
  constexpr std::uint32_t groups = 20000;
  double uniform_angle = 0.0, haar = 0.0;
  for (std::uint32_t g = 0; g < groups; ++g) {
    const auto trace = [](const Matrix3& m) { return m[0] + m[4] + m[8]; };
    uniform_angle += trace(rotation_matrix(random_rotor(1, g, RotorSampling::uniform_angle))) / groups;
    haar += trace(rotation_matrix(random_rotor(1, g, RotorSampling::haar))) / groups;
  }
  const double five_errors = 5.0 * std::sqrt(2.0 / groups);
  EXPECT_NEAR(uniform_angle, 1.0, five_errors);
  EXPECT_NEAR(haar, 0.0, five_errors);
}

TEST(Rotor, PlaneRotorStaysInTheFirstPlane) {
  const Rotor rotor = random_plane_rotor(3, 4);
  EXPECT_EQ(rotor.e13, 0.0);
  EXPECT_EQ(rotor.e23, 0.0);
}

TEST(ReferenceTable, KeepsTheVectorAndLeavesATrivector) {
  RandomStream stream(1, Purpose::synthetic);
  for (std::uint32_t group = 0; group < 20; ++group) {
    const Rotor rotor = random_rotor(1, group, RotorSampling::uniform_angle);
    const Multivector r = rotor.multivector();
    Multivector x;
    for (std::size_t i = 1; i <= 3; ++i) x[i] = stream.normal();
    const Multivector wrong = reference_product(reference_product(r, x), reverse(r));
    const Multivector right = sandwich(r, x);
    for (std::size_t i = 0; i < 7; ++i) EXPECT_NEAR(wrong[i], right[i], rounding) << "blade " << i;
    const std::array<double, 3> weights = reference_trivector_weights(rotor);
    EXPECT_NEAR(wrong[7], weights[0] * x[1] + weights[1] * x[2] + weights[2] * x[3], rounding);
  }
}

}  // namespace
}  // namespace rotorquant
