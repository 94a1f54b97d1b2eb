#pragma once
// The multiplication table of the well-known Python implementation of RotorQuant: that of Cl(3,0) with the
// signs of 18 of its 64 basis products reversed. It serves compatibility alone
// (quantizers/trivector_codec.hpp).
//
// In R x reverse(R) of a vector x its errors cancel in the vector part and leave a trivector, which is zero
// in Cl(3,0).
#include <array>
#include <cstddef>

#include "rotorquant/clifford/multivector.hpp"
#include "rotorquant/clifford/rotor.hpp"

namespace rotorquant {

// +1 or -1: the sign that the table gives to blade_a * blade_b.
int reference_product_sign(std::size_t a, std::size_t b);

// The product a b by the table.
Multivector reference_product(const Multivector& a, const Multivector& b);

// (w1, w2, w3): the trivector that the table leaves in R x reverse(R) is w1 x1 + w2 x2 + w3 x3.
std::array<double, 3> reference_trivector_weights(const Rotor& rotor);

}  // namespace rotorquant
