#pragma once
// Limited-memory BFGS (Nocedal & Wright, Numerical Optimization, 2nd ed., algorithm 7.4) with a line search
// by bisection for the weak Wolfe conditions (Lewis & Overton 2013). A header of its own rather than a
// dependency: liblbfgs is a C interface without an installed CMake package, for the hundred lines that
// follow.
#include <cmath>
#include <deque>
#include <limits>
#include <utility>

#include "evaluation/calibration/matrix.hpp"

namespace rotorquant::evaluation::calibration {

struct LbfgsSettings {
  int iterations = 100;
  int memory = 20;
  // Stop when no gradient element is larger, or when a step lowers the objective by less than this share of
  // 1 + |objective|.
  double gradient_tolerance = 1e-6;
  double decrease_tolerance = 1e-10;
};

struct LbfgsResult {
  double objective = 0.0;
  int iterations = 0;
};

// Minimises `objective(x, gradient) -> value` from x, in place. The value never rises.
template <typename Objective>
LbfgsResult minimize_lbfgs(const Objective& objective, Vector& x, const LbfgsSettings& settings) {
  constexpr double sufficient_decrease = 1e-4;
  constexpr double curvature = 0.9;
  constexpr int max_trials = 40;

  Vector gradient(x.size());
  LbfgsResult result{objective(x, gradient), 0};
  std::deque<std::pair<Vector, Vector>> history;  // (step, change of gradient), newest at the back
  std::vector<double> coefficients;

  for (; result.iterations < settings.iterations; ++result.iterations) {
    if (x.size() == 0 || gradient.lpNorm<Eigen::Infinity>() <= settings.gradient_tolerance) break;

    // Two-loop recursion.
    Vector direction = -gradient;
    coefficients.assign(history.size(), 0.0);
    for (std::size_t i = history.size(); i-- > 0;) {
      const auto& [step, change] = history[i];
      coefficients[i] = step.dot(direction) / step.dot(change);
      direction -= coefficients[i] * change;
    }
    if (history.empty()) {
      direction /= std::max(1.0, gradient.norm());
    } else {
      const auto& [step, change] = history.back();
      direction *= step.dot(change) / change.squaredNorm();
    }
    for (std::size_t i = 0; i < history.size(); ++i) {
      const auto& [step, change] = history[i];
      direction += (coefficients[i] - change.dot(direction) / step.dot(change)) * step;
    }

    const double slope = gradient.dot(direction);
    if (!(slope < 0.0)) break;
    double low = 0.0;
    double high = std::numeric_limits<double>::infinity();
    double length = 1.0;
    Vector trial;
    Vector trial_gradient(x.size());
    double value = 0.0;
    bool accepted = false;
    for (int t = 0; t < max_trials && !accepted; ++t) {
      trial = x + length * direction;
      value = objective(trial, trial_gradient);
      // Written so that a value that is not a number shortens the step.
      if (!(value <= result.objective + sufficient_decrease * length * slope)) {
        high = length;
      } else if (trial_gradient.dot(direction) < curvature * slope) {
        low = length;
      } else {
        accepted = true;
        break;
      }
      length = std::isinf(high) ? 2.0 * low : 0.5 * (low + high);
    }
    if (!accepted) break;

    const double decrease = result.objective - value;
    history.emplace_back(trial - x, trial_gradient - gradient);
    if (history.size() > static_cast<std::size_t>(settings.memory)) history.pop_front();
    x = std::move(trial);
    gradient = trial_gradient;
    result.objective = value;
    if (decrease <= settings.decrease_tolerance * (1.0 + std::abs(value))) {
      ++result.iterations;
      break;
    }
  }
  return result;
}

}  // namespace rotorquant::evaluation::calibration
