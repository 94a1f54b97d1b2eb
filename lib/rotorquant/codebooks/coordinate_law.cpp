#include "rotorquant/codebooks/coordinate_law.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace rotorquant {
namespace {

constexpr double inverse_sqrt_two_pi = 0.3989422804014326779;

// Integral of cos(phi)^power from 0 to arcsin(t).
double cosine_integral(double t, std::int64_t power) {
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

}  // namespace

double NormalLaw::density(double t) const {
  return inverse_sqrt_two_pi * std::exp(-0.5 * t * t);
}

// The complementary error function keeps its relative precision in the tail, where outer cells lie.
double NormalLaw::mass(double low, double high) const {
  return 0.5 * (std::erfc(low / std::numbers::sqrt2) - std::erfc(high / std::numbers::sqrt2));
}

double NormalLaw::first_moment(double low, double high) const {
  return density(low) - density(high);
}

double NormalLaw::second_moment(double low, double high) const {
  const double high_term = std::isinf(high) ? 0.0 : high * density(high);
  return mass(low, high) + low * density(low) - high_term;
}

double NormalLaw::support() const {
  return std::numeric_limits<double>::infinity();
}

SphereLaw::SphereLaw(std::int64_t dim) : dim_(dim), normalisation_(0.5 / cosine_integral(1.0, dim - 2)) {}

double SphereLaw::standard_deviation() const {
  return 1.0 / std::sqrt(static_cast<double>(dim_));
}

double SphereLaw::density(double t) const {
  if (std::abs(t) >= 1.0) return 0.0;
  return normalisation_ * std::pow((1.0 - t) * (1.0 + t), 0.5 * static_cast<double>(dim_ - 3));
}

double SphereLaw::mass(double low, double high) const {
  return normalisation_ * (cosine_integral(high, dim_ - 2) - cosine_integral(low, dim_ - 2));
}

double SphereLaw::first_moment(double low, double high) const {
  const auto power = static_cast<double>(dim_ - 1);
  const double at_low = std::pow((1.0 - low) * (1.0 + low), 0.5 * power);
  const double at_high = high >= 1.0 ? 0.0 : std::pow((1.0 - high) * (1.0 + high), 0.5 * power);
  return normalisation_ / power * (at_low - at_high);
}

double SphereLaw::second_moment(double low, double high) const {
  // t^2 = 1 - cos^2.
  return mass(low, high) - normalisation_ * (cosine_integral(high, dim_) - cosine_integral(low, dim_));
}

}  // namespace rotorquant
