#pragma once
// The exponentials of one attention row, within 1.5 units in the last place, to the same bits on every
// instruction set (the C library's differ from one machine to the next, and vary between a vector's body and
// its tail).
#include <cstdint>

namespace rotorquant::evaluation {

// out[j] = exp(scale products[j] - shift) for j < visible, and 0 for visible <= j < count; returns the sum.
// `shift` is the largest scale * products[j], so that no exponent is positive; below e^-708 the result is 0.
// In place is allowed. Both arrays have room for `count` values rounded up to a multiple of lane_count; what
// `products` holds beyond `visible` has no effect.
double exponentials(const double* products, std::int64_t visible, std::int64_t count, double scale,
                    double shift, double* out);

}  // namespace rotorquant::evaluation
