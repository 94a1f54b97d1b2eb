#pragma once
// Progress of a long command on standard error: a bar with the time left on a terminal, a plain line now and
// then in a log.
#include <chrono>
#include <cstdint>
#include <string>

namespace rotorquant::evaluation {

class Progress {
 public:
  // total >= 1 steps; quiet shows nothing. done_before: steps that an earlier run did, which say nothing of
  // the speed.
  Progress(std::string what, std::int64_t total, std::int64_t done_before, bool quiet);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  // One more step is done. Not thread-safe.
  void advance();

 private:
  void show(double seconds);

  std::string what_;
  std::int64_t total_;
  std::int64_t done_before_;
  std::int64_t done_;
  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  double last_shown_ = 0.0;  // seconds since the start
  std::chrono::steady_clock::time_point start_;
};

}  // namespace rotorquant::evaluation
