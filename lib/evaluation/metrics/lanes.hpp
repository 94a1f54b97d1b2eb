#pragma once
// Eight float64 that GCC and Clang keep in whatever vector registers the target has: one of 512 bits or
// several smaller. Used as local variables alone, since passing them by value is part of no portable calling
// convention.
#include <cstdint>

namespace rotorquant::evaluation {

using Lanes = double __attribute__((vector_size(64)));
inline constexpr std::int64_t lane_count = 8;

}  // namespace rotorquant::evaluation
