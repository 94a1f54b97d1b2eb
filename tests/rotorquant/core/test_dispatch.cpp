#include <gtest/gtest.h>

#include <limits>

#include "rotorquant/core/dispatch.hpp"

namespace rotorquant {
namespace {

TEST(DispatchBits, MakesEveryWidthACompileTimeOne) {
  for (int bits = min_bits; bits <= max_bits; ++bits) {
    EXPECT_EQ(dispatch_bits(bits, [](auto width) { return decltype(width)::value; }), bits);
  }
}

TEST(DispatchBits, RefusesOtherWidthsAndListsTheValidOnes) {
  for (const int bits : {0, 9, -1, std::numeric_limits<int>::max()}) {
    try {
      dispatch_bits(bits, [](auto) {});
      FAIL() << bits << " was accepted";
    } catch (const UsageError& error) {
      EXPECT_EQ(error.what(),
                "bits = " + std::to_string(bits) + " is not supported; valid: 1, 2, 3, 4, 5, 6, 7, 8");
    }
  }
}

}  // namespace
}  // namespace rotorquant
