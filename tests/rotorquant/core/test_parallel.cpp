#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "rotorquant/core/parallel.hpp"

namespace rotorquant {
namespace {

class Parallel : public ::testing::TestWithParam<int> {};

TEST_P(Parallel, VisitsEveryItemOnceInChunksOfTheGrain) {
  for (const std::int64_t count : {0, 1, 6, 7, 8, 100}) {
    std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
    parallel_chunks({GetParam()}, count, 7, [&](std::int64_t begin, std::int64_t end) {
      EXPECT_EQ(begin % 7, 0);
      EXPECT_TRUE(end == count || end - begin == 7);
      for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
    });
    for (const auto& v : visits) EXPECT_EQ(v, 1);
  }
}

TEST_P(Parallel, RethrowsTheFirstFailureInItemOrder) {
  const auto body = [](std::int64_t i) {
    if (i == 11 || i == 40 || i == 90) throw std::runtime_error(std::to_string(i));
  };
  try {
    parallel_for({GetParam()}, 100, body);
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "11");
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, Parallel, ::testing::Values(1, 2, 5));

}  // namespace
}  // namespace rotorquant
