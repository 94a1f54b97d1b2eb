#pragma once
// Turns a run-time bit width into a compile-time one, in one place.
#include <string>
#include <type_traits>
#include <utility>

#include "rotorquant/core/error.hpp"

namespace rotorquant {

inline constexpr int min_bits = 1;
inline constexpr int max_bits = 8;

// body(std::integral_constant<int, bits>{}); a width outside 1..8 is refused with the list of supported ones.
template <typename Body>
decltype(auto) dispatch_bits(int bits, Body&& body) {
  switch (bits) {
    case 1:
      return body(std::integral_constant<int, 1>{});
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 3:
      return body(std::integral_constant<int, 3>{});
    case 4:
      return body(std::integral_constant<int, 4>{});
    case 5:
      return body(std::integral_constant<int, 5>{});
    case 6:
      return body(std::integral_constant<int, 6>{});
    case 7:
      return body(std::integral_constant<int, 7>{});
    case 8:
      return body(std::integral_constant<int, 8>{});
    default:
      break;
  }
  throw UsageError("bits = " + std::to_string(bits) + " is not supported; valid: 1, 2, 3, 4, 5, 6, 7, 8");
}

}  // namespace rotorquant
