#pragma once
#include <cstdint>

namespace rotorquant {

// row [count], count >= 1: softmax(scale row) in place, in float32 with the usual subtraction of the maximum.
// Exponentials are within 2e-7 of themselves; sums have an order that depends on `count` alone, so that
// instruction sets do not change a bit.
void softmax(float* row, std::int64_t count, float scale);

}  // namespace rotorquant
