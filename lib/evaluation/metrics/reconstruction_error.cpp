#include "evaluation/metrics/reconstruction_error.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

namespace rotorquant::evaluation {

ReconstructionError reconstruction_error(HostView<const float> x, HostView<const float> x_hat) {
  double total_error = 0.0;
  double total_energy = 0.0;
  double total_cosine = 0.0;
  std::int64_t nonzero = 0;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    double error = 0.0;
    double energy = 0.0;
    double energy_hat = 0.0;
    double product = 0.0;
    for (std::int64_t c = 0; c < x.cols; ++c) {
      const double exact = static_cast<double>(x.row(r)[c]);
      const double estimate = static_cast<double>(x_hat.row(r)[c]);
      error += (exact - estimate) * (exact - estimate);
      energy += exact * exact;
      energy_hat += estimate * estimate;
      product += exact * estimate;
    }
    total_error += error;
    total_energy += energy;
    if (energy > 0.0) {
      ++nonzero;
      if (energy_hat > 0.0) total_cosine += product / (std::sqrt(energy) * std::sqrt(energy_hat));
    }
  }
  constexpr double undefined = std::numeric_limits<double>::quiet_NaN();
  return {.mse = total_error / static_cast<double>(x.rows),
          .nmse = nonzero > 0 ? total_error / total_energy : undefined,
          .cosine = nonzero > 0 ? total_cosine / static_cast<double>(nonzero) : undefined};
}

}  // namespace rotorquant::evaluation
