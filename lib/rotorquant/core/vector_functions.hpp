#pragma once
// What is written alike for numbers, on a GPU too, and for vectors of them; register_pair.hpp adds its own.
#include <cstring>

#include "rotorquant/core/host_device.hpp"

namespace rotorquant {

// condition ? yes : no
template <typename Condition, typename Numbers>
ROTORQUANT_HOST_DEVICE inline Numbers choose(const Condition& condition, const Numbers& yes,
                                             const Numbers& no) {
  return condition ? yes : no;
}

// The bits of x as another type of the same size.
template <typename To, typename From>
ROTORQUANT_HOST_DEVICE inline To same_bits(const From& x) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

}  // namespace rotorquant
