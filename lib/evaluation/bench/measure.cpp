#include "evaluation/bench/measure.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

namespace rotorquant::evaluation {
namespace {

constexpr int most_repetitions = 1 << 20;

// Repetitions that make a sample last `seconds`, from one run's time after a first run that warms up.
int choose_repetitions(const BenchOperation& operation, double seconds) {
  operation.time(1);
  const double once = std::max(operation.time(1), 1e-9);
  return static_cast<int>(std::clamp(std::ceil(seconds / once), 1.0, double{most_repetitions}));
}

// Median over rounds of numerator[r] / denominator[r].
double median_ratio(const std::vector<double>& numerator, const std::vector<double>& denominator) {
  std::vector<double> ratios;
  for (std::size_t r = 0; r < numerator.size(); ++r) ratios.push_back(numerator[r] / denominator[r]);
  return quartiles(std::move(ratios)).median;
}

}  // namespace

std::function<double(int)> host_timer(std::function<void()> run) {
  return [run = std::move(run)](int repetitions) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < repetitions; ++i) run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
}

Quartiles quartiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {at(0.25), at(0.5), at(0.75)};
}

std::vector<Measurement> measure(const BenchGroup& group, const MeasureOptions& options) {
  const std::size_t count = group.operations.size();
  std::vector<int> repetitions;
  for (const BenchOperation& operation : group.operations) {
    operation.check();
    repetitions.push_back(choose_repetitions(operation, options.seconds_per_sample));
  }
  std::vector<std::vector<double>> seconds(count);  // [operation][round], of one run
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t i = 0; i < count; ++i)
      seconds[i].push_back(group.operations[i].time(repetitions[i]) / repetitions[i]);
  }

  const auto fraction_of = [&](const char* baseline, std::size_t i) {
    for (std::size_t j = 0; j < count; ++j) {
      if (group.operations[j].name != baseline) continue;
      const double bytes_ratio =
          static_cast<double>(group.operations[i].bytes()) / static_cast<double>(group.operations[j].bytes());
      return bytes_ratio * median_ratio(seconds[j], seconds[i]);
    }
    return std::numeric_limits<double>::quiet_NaN();
  };
  std::vector<Measurement> measurements;
  for (std::size_t i = 0; i < count; ++i) {
    Measurement& measurement = measurements.emplace_back();
    measurement.seconds = quartiles(seconds[i]);
    measurement.samples = options.rounds;
    measurement.repetitions = repetitions[i];
    measurement.fraction_of_copy = fraction_of(copy_operation, i);
    measurement.fraction_of_read = fraction_of(read_operation, i);
    const BenchOperation& own = group.operations[i];
    for (std::size_t j = 0; j < count; ++j) {
      const BenchOperation& other = group.operations[j];
      if (j == i || other.name != own.name || other.quantizer.empty()) continue;
      measurement.over[other.quantizer] = median_ratio(seconds[j], seconds[i]);
    }
  }
  return measurements;
}

}  // namespace rotorquant::evaluation
