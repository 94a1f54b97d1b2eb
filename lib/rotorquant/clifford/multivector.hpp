#pragma once
// The geometric algebra Cl(3,0): e_i e_i = +1, e_i e_j = -e_j e_i.
// Blades in the order 1 e1 e2 e3 e12 e13 e23 e123. This is the definition that the rotation kernels are
// tested against. Source: Hestenes and Sobczyk, "Clifford Algebra to Geometric Calculus" (1984), chapter 1.
#include <array>
#include <bit>
#include <cstddef>

namespace rotorquant {

inline constexpr std::size_t num_blades = 8;
// Bit i of a blade's mask says whether e_(i+1) is a factor.
inline constexpr std::array<unsigned, num_blades> blade_mask = {0b000, 0b001, 0b010, 0b100,
                                                                0b011, 0b101, 0b110, 0b111};
// Position in the blade order of the blade with a given mask.
inline constexpr std::array<std::size_t, num_blades> blade_of_mask = {0, 1, 2, 4, 3, 5, 6, 7};
// Number of vector factors of each blade, 0..3.
inline constexpr std::array<int, num_blades> blade_grade = {0, 1, 1, 1, 2, 2, 2, 3};

// +1 or -1: the sign of blade_a * blade_b, by counting the transpositions that sort the factors.
constexpr int basis_product_sign(std::size_t a, std::size_t b) {
  int transpositions = 0;
  for (unsigned rest = blade_mask[a] >> 1; rest != 0; rest >>= 1) {
    transpositions += std::popcount(rest & blade_mask[b]);
  }
  return transpositions % 2 == 0 ? 1 : -1;
}

// Index of the blade that blade_a * blade_b is, up to sign.
constexpr std::size_t basis_product_blade(std::size_t a, std::size_t b) {
  return blade_of_mask[blade_mask[a] ^ blade_mask[b]];
}

struct Multivector {
  std::array<double, num_blades> blades{};

  constexpr double& operator[](std::size_t i) { return blades[i]; }
  constexpr double operator[](std::size_t i) const { return blades[i]; }
};

// The geometric product a b.
constexpr Multivector operator*(const Multivector& a, const Multivector& b) {
  Multivector product;
  for (std::size_t i = 0; i < num_blades; ++i) {
    for (std::size_t j = 0; j < num_blades; ++j) {
      product[basis_product_blade(i, j)] += basis_product_sign(i, j) * a[i] * b[j];
    }
  }
  return product;
}

// Reverses the order of all vector factors: grades 2 and 3 change sign.
constexpr Multivector reverse(const Multivector& a) {
  Multivector reversed;
  for (std::size_t i = 0; i < num_blades; ++i) reversed[i] = blade_grade[i] >= 2 ? -a[i] : a[i];
  return reversed;
}

// The scalar part of a * reverse(a); in Cl(3,0) the sum of squares of all blades.
constexpr double norm_squared(const Multivector& a) {
  return (a * reverse(a))[0];
}

// r x reverse(r).
constexpr Multivector sandwich(const Multivector& r, const Multivector& x) {
  return r * x * reverse(r);
}

}  // namespace rotorquant
