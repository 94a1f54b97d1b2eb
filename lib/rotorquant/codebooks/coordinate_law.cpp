#include "rotorquant/codebooks/coordinate_law.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace rotorquant {
namespace {

constexpr double inverse_sqrt_two_pi = 0.3989422804014326779;

}  // namespace

double NormalLaw::density(double t) const { return inverse_sqrt_two_pi * std::exp(-0.5 * t * t); }

double NormalLaw::mass_to(double t) const { return 0.5 * std::erf(t / std::numbers::sqrt2); }

double NormalLaw::first_moment_to(double t) const { return inverse_sqrt_two_pi - density(t); }

double NormalLaw::second_moment_to(double t) const {
  return std::isinf(t) ? mass_to(t) : mass_to(t) - t * density(t);
}

double NormalLaw::support() const { return std::numeric_limits<double>::infinity(); }

SphereLaw::SphereLaw(std::int64_t dim) : dim_(dim), normalisation_(0.5 / cosine_integral(1.0, dim - 2)) {}

double SphereLaw::standard_deviation() const { return 1.0 / std::sqrt(static_cast<double>(dim_)); }

// Integral of cos(phi)^power from 0 to arcsin(t).
double SphereLaw::cosine_integral(double t, std::int64_t power) const {
  const double sine = std::clamp(t, -1.0, 1.0);
  const double cosine = std::sqrt((1.0 - sine) * (1.0 + sine));
  double integral = power % 2 == 0 ? std::asin(sine) : sine;
  double cosine_power = power % 2 == 0 ? cosine : cosine * cosine;  // cos^(n-1) of the first step below
  for (std::int64_t n = power % 2 == 0 ? 2 : 3; n <= power; n += 2) {
    const auto order = static_cast<double>(n);
    integral = cosine_power * sine / order + (order - 1.0) / order * integral;
    cosine_power *= cosine * cosine;
  }
  return integral;
}

double SphereLaw::density(double t) const {
  if (std::abs(t) >= 1.0) return 0.0;
  return normalisation_ * std::pow((1.0 - t) * (1.0 + t), 0.5 * static_cast<double>(dim_ - 3));
}

double SphereLaw::mass_to(double t) const { return normalisation_ * cosine_integral(t, dim_ - 2); }

double SphereLaw::first_moment_to(double t) const {
  const double sine = std::clamp(t, -1.0, 1.0);
  const auto power = static_cast<double>(dim_ - 1);
  return normalisation_ / power * (1.0 - std::pow((1.0 - sine) * (1.0 + sine), 0.5 * power));
}

double SphereLaw::second_moment_to(double t) const {
  // t^2 = 1 - cos^2.
  return normalisation_ * (cosine_integral(t, dim_ - 2) - cosine_integral(t, dim_));
}

}  // namespace rotorquant
