#include "evaluation/metrics/reconstruction_error.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "evaluation/metrics/lanes.hpp"

namespace rotorquant::evaluation {
namespace {

struct RowMoments {
  Lanes error = {};  // Σ (x - x̂)²
  Lanes energy = {};
  Lanes energy_hat = {};
  Lanes product = {};

  void add(const Lanes& exact, const Lanes& estimate) {
    error += (exact - estimate) * (exact - estimate);
    energy += exact * exact;
    energy_hat += estimate * estimate;
    product += exact * estimate;
  }
};

double sum_of(const Lanes& terms) {
  double sum = 0.0;
  for (std::int64_t lane = 0; lane < lane_count; ++lane) sum += terms[lane];
  return sum;
}

}  // namespace

ReconstructionError reconstruction_error(HostView<const float> x, HostView<const float> x_hat) {
  double total_error = 0.0;
  double total_energy = 0.0;
  double total_cosine = 0.0;
  std::int64_t nonzero = 0;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    RowMoments row;
    std::int64_t c = 0;
    for (; c + lane_count <= x.cols; c += lane_count) row.add(widen(x.row(r) + c), widen(x_hat.row(r) + c));
    if (c < x.cols) {
      float exact[lane_count] = {};
      float estimate[lane_count] = {};
      std::copy(x.row(r) + c, x.row(r) + x.cols, exact);
      std::copy(x_hat.row(r) + c, x_hat.row(r) + x.cols, estimate);
      row.add(widen(exact), widen(estimate));
    }
    const double error = sum_of(row.error);
    const double energy = sum_of(row.energy);
    const double energy_hat = sum_of(row.energy_hat);
    const double product = sum_of(row.product);
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
