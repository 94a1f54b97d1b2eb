#pragma once
// Wall time of parts of a sweep.
#include <chrono>

namespace rotorquant::evaluation {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;  // never set back
  Clock::time_point start_ = Clock::now();
};

}  // namespace rotorquant::evaluation
