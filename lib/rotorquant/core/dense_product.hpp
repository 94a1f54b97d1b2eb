#pragma once
// y = x a for rows, with a summation order that depends on nothing but the shapes: each output adds its terms
// from the first row of `a` to the last, each product and each sum rounded to float32. Batch size, block and
// instruction set do not change a bit, which a general matrix product does not promise.
#include "rotorquant/core/view.hpp"

namespace rotorquant {

// x [n, k], a [k, m] -> y [n, m].
void dense_product(HostView<const float> x, HostView<const float> a, HostView<float> y);

}  // namespace rotorquant
