#include <gtest/gtest.h>

#include "evaluation/sweep/progress.hpp"

namespace rotorquant::evaluation {
namespace {

std::string shown_by_steps(std::int64_t total, std::int64_t done_before, bool quiet) {
  ::testing::internal::CaptureStderr();  // a file: no terminal
  {
    Progress progress("sweep", total, done_before, quiet);
    for (std::int64_t step = done_before; step < total; ++step) progress.advance();
  }
  return ::testing::internal::GetCapturedStderr();
}

TEST(Progress, QuietShowsNothing) {
  EXPECT_EQ(shown_by_steps(1000, 0, true), "");
}

TEST(Progress, ShortWorkShowsNothingInALog) {
  EXPECT_EQ(shown_by_steps(1000, 10, false), "");
}

TEST(Progress, NothingLeftToDoShowsNothing) {
  EXPECT_EQ(shown_by_steps(10, 10, false), "");
}

}  // namespace
}  // namespace rotorquant::evaluation
