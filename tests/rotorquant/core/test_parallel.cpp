#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
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

TEST_P(Parallel, BeginsChunksInOrderAndNoneAfterAFailure) {
  std::vector<std::atomic<int>> begun(1000);
  int missing = 0;  // of those before 500, when that begins: no more than other threads are about to begin
  const auto body = [&](std::int64_t i) {
    begun[static_cast<std::size_t>(i)] = 1;
    if (i > 500) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (i != 500) return;
    for (std::size_t k = 0; k < 500; ++k) missing += 1 - begun[k];
    throw std::runtime_error("500");
  };
  EXPECT_THROW(parallel_for({GetParam()}, 1000, body), std::runtime_error);
  EXPECT_LT(missing, GetParam());
  int visited = 0;
  for (const auto& one : begun) visited += one;
  EXPECT_GE(visited, 501);
  EXPECT_LT(visited, 1000);
}

INSTANTIATE_TEST_SUITE_P(Threads, Parallel, ::testing::Values(1, 2, 5));

}  // namespace
}  // namespace rotorquant
