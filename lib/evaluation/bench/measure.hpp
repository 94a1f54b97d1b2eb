#pragma once
// Times the operations of a group in interleaved rounds: round after round, each operation once, so that
// whatever slows the machine for a while slows all of them. Ratios are formed inside a round, and medians
// over rounds.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "evaluation/bench/operation.hpp"

namespace rotorquant::evaluation {

struct MeasureOptions {
  int rounds = 21;                    // >= 1
  double seconds_per_sample = 0.005;  // repetitions are chosen so that one sample takes at least this long
};

struct Quartiles {
  double lower = 0.0;
  double median = 0.0;
  double upper = 0.0;
};

struct Measurement {
  Quartiles seconds;  // of one run
  std::int64_t samples = 0;
  std::int64_t repetitions = 0;  // runs of one sample
  // Speed in bytes/s over that of the copy and of the read of the group; NaN where the group has none.
  double fraction_of_copy = 0.0;
  double fraction_of_read = 0.0;
  // Vectors/s over those of the other quantizers' operations of the same name in the group, by their text.
  std::map<std::string, double> over;
};

// One for each operation, in order. Checks every operation first; errors: those of the checks.
std::vector<Measurement> measure(const BenchGroup& group, const MeasureOptions& options);

// Linear interpolation between order statistics; `values` is not empty.
Quartiles quartiles(std::vector<double> values);

}  // namespace rotorquant::evaluation
