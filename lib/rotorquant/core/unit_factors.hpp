#pragma once
// The number that makes a row a unit vector, as every kernel finds it: 1 / max(||x||, norm_floor) in float32,
// ||x|| the root of the float32 sum of squares (which scalar_kernels.hpp orders), or of the float64 sum where
// that one lies outside [least_float_square, most_float_square].

namespace rotorquant {

// Below this a norm does not divide: the reference implementation's guard, kept so that its codes are
// reproduced.
inline constexpr float norm_floor = 1e-8F;

// Float32 squares of a sum in this range neither overflow nor lose more than rounding to underflow.
inline constexpr float least_float_square = 0x1p-80F;
inline constexpr float most_float_square = 0x1p80F;

}  // namespace rotorquant
