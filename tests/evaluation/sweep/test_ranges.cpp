#include <gtest/gtest.h>

#include <numeric>

#include "evaluation/sweep/messages.hpp"
#include "evaluation/sweep/ranges.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::expect_contains;
using testing::usage_message;

using Numbers = std::vector<std::int64_t>;

TEST(Ranges, EveryValidForm) {
  const std::pair<const char*, Numbers> cases[] = {
      {"3", {3}},
      {"0", {0}},
      {"2,3,4", {2, 3, 4}},
      {"0-3", {0, 1, 2, 3}},
      {"5-5", {5}},
      {"0,5-7", {0, 5, 6, 7}},
      {"7,1-2", {7, 1, 2}},       // the order of the text
      {"3,1-4,3", {3, 1, 2, 4}},  // without repeats
      {"007", {7}},
  };
  for (const auto& [text, numbers] : cases) EXPECT_EQ(parse_ranges(text, "seeds", 0, 9), numbers) << text;
}

TEST(Ranges, NegativeNumbersAreNoRanges) {
  EXPECT_EQ(parse_ranges("-3", "offsets", -5, 5), (Numbers{-3}));
  EXPECT_EQ(parse_ranges("-3--1", "offsets", -5, 5), (Numbers{-3, -2, -1}));
  EXPECT_EQ(parse_ranges("-1-1", "offsets", -5, 5), (Numbers{-1, 0, 1}));
}

TEST(Ranges, LimitsAreIncluded) {
  EXPECT_EQ(parse_ranges("1-8", "bits", 1, 8).size(), 8U);
  expect_contains(usage_message([] { parse_ranges("0-8", "bits", 1, 8); }),
                  "0 is out of range; valid: 1 to 8");
  expect_contains(usage_message([] { parse_ranges("1-9", "bits", 1, 8); }),
                  "9 is out of range; valid: 1 to 8");
}

TEST(Ranges, MalformedTextIsNamed) {
  for (const char* text : {"", ",", "1,", ",1", "a", "1.5", "1-", "5-2", "1-2-3", "1 ", " 1", "+1", "0x1",
                           "1e3", "--1", "99999999999999999999", "0-99999999999999999999"}) {
    const std::string message = usage_message([&] { parse_ranges(text, "seeds", 0, 9); });
    expect_contains(message, "seeds '" + std::string(text) + "'");
    expect_contains(message, "valid: such as 3 or 0-9 or 0,5-9");
  }
}

TEST(Ranges, ARangeThatWouldFillMemoryIsRefused) {
  expect_contains(usage_message([] { parse_ranges("0-2000000000", "seeds", 0, 2'000'000'000); }),
                  "0-2000000000");
}

}  // namespace
}  // namespace rotorquant::evaluation
