#include "rotorquant/clifford/reference_table.hpp"

namespace rotorquant {
namespace {

// Bit b of entry a: the sign of blade_a * blade_b is reversed. Blades in the order 1 e1 e2 e3 e12 e13 e23
// e123.
constexpr std::array<unsigned, num_blades> reversed_signs = {
    0,          0, 0, 0,
    0b11101000,  // e12 with e3, e13, e23, e123
    0b11010100,  // e13 with e2, e12, e23, e123
    0b10110010,  // e23 with e1, e12, e13, e123
    0b01111110,  // e123 with e1, e2, e3, e12, e13, e23
};

}  // namespace

int reference_product_sign(std::size_t a, std::size_t b) {
  return (reversed_signs[a] >> b & 1U) != 0 ? -basis_product_sign(a, b) : basis_product_sign(a, b);
}

Multivector reference_product(const Multivector& a, const Multivector& b) {
  Multivector product;
  for (std::size_t i = 0; i < num_blades; ++i) {
    for (std::size_t j = 0; j < num_blades; ++j) {
      product[basis_product_blade(i, j)] += reference_product_sign(i, j) * a[i] * b[j];
    }
  }
  return product;
}

std::array<double, 3> reference_trivector_weights(const Rotor& rotor) {
  const Multivector r = rotor.multivector();
  std::array<double, 3> weights{};
  for (std::size_t i = 0; i < 3; ++i) {
    Multivector basis;
    basis[1 + i] = 1.0;
    weights[i] = reference_product(reference_product(r, basis), reverse(r))[7];
  }
  return weights;
}

}  // namespace rotorquant
