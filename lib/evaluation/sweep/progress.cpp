#include "evaluation/sweep/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace rotorquant::evaluation {
namespace {

constexpr double terminal_interval = 0.1;  // seconds between redraws: smooth to the eye
constexpr double log_interval = 10.0;      // seconds between lines of a log
constexpr std::int64_t bar_width = 30;

std::string duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace

Progress::Progress(std::string what, std::int64_t total, std::int64_t done_before, bool quiet)
    : what_(std::move(what)),
      total_(total),
      done_before_(done_before),
      done_(done_before),
      quiet_(quiet),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  // The bar is a moving picture, not output: the line is cleared for what follows.
  if (drawn_ && terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::advance() {
  ++done_;
  if (quiet_) return;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double interval = terminal_ ? terminal_interval : log_interval;
  if (seconds - last_shown_ < interval) return;
  last_shown_ = seconds;
  show(seconds);
}

void Progress::show(double seconds) {
  const double left =
      seconds / static_cast<double>(done_ - done_before_) * static_cast<double>(total_ - done_);
  const std::int64_t percent = 100 * done_ / total_;
  if (terminal_) {
    const std::int64_t filled = bar_width * done_ / total_;
    fmt::print(stderr, "\r\033[K{} [{:#<{}}{:.<{}}] {}% {}/{} ETA {}", what_, "", filled, "",
               bar_width - filled, percent, done_, total_, duration(left));
  } else {
    fmt::print(stderr, "{}: {}/{} ({}%), {} left\n", what_, done_, total_, percent, duration(left));
  }
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace rotorquant::evaluation
