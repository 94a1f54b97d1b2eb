#pragma once
// The moments that calibrated rivals need of one KV head, pooled over its sequences.
#include "evaluation/calibration/fit.hpp"
#include "rotorquant/quantizers/key_statistics.hpp"

namespace rotorquant::evaluation::calibration {

// Keys turned back by the model's RoPE, the first `sinks` of each sequence left out; all queries. Components
// are the eigenvectors of the keys' covariance, each with its largest entry positive.
KeyStatistics measure_statistics(const CalibrationInput& input, const CalibrationModel& model,
                                 std::int64_t sinks);

}  // namespace rotorquant::evaluation::calibration
