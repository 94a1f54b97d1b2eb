#pragma once
// `condition ? yes : no` of numbers, on a GPU too, and of vectors of them; register_pair.hpp adds its own.
#include "rotorquant/core/host_device.hpp"

namespace rotorquant {

template <typename Condition, typename Numbers>
ROTORQUANT_HOST_DEVICE inline Numbers choose(const Condition& condition, const Numbers& yes,
                                             const Numbers& no) {
  return condition ? yes : no;
}

}  // namespace rotorquant
