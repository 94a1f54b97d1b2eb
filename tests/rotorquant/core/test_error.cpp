#include <gtest/gtest.h>

#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

const std::vector<std::string> names = {"rotorquant", "rotorquant-prod", "turboquant", "q8_0"};

TEST(NearestHint, NamesTheNearestCandidate) {
  EXPECT_EQ(nearest_hint("rotoquant", names), "; did you mean 'rotorquant'?");
  EXPECT_EQ(nearest_hint("turboquent", names), "; did you mean 'turboquant'?");
  EXPECT_EQ(nearest_hint("rotorquant-prd", names), "; did you mean 'rotorquant-prod'?");
  EXPECT_EQ(nearest_hint("q8", names), "; did you mean 'q8_0'?");
}

TEST(NearestHint, IsSilentWhenNothingIsNear) {
  EXPECT_EQ(nearest_hint("completely-different", names), "");
  EXPECT_EQ(nearest_hint("x", {}), "");
  EXPECT_EQ(nearest_hint("", {"long-name"}), "");
}

TEST(NearestHint, PrefersTheFirstOfEquallyNearOnes) {
  EXPECT_EQ(nearest_hint("mode", {"node", "code"}), "; did you mean 'node'?");
}

}  // namespace
}  // namespace rotorquant
