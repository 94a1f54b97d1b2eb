#include "evaluation/report/number_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace rotorquant::evaluation {
namespace {

constexpr int significant_digits = 3;
constexpr int largest_digits = 6;     // digits the largest number may take for the smallest one's sake
constexpr int distance_digits = 2;    // of the smallest distance from 1
constexpr int distance_decimals = 5;  // at most
constexpr int least_size_decimals = 2;
constexpr int most_size_decimals = 4;
constexpr double size_rounding = 1e-6;  // of a size times a power of ten, in float64
constexpr double scale_threshold =
    1e5;  // a column of larger numbers only is written in millions (or the like)

int exponent_of(double magnitude) {
  return static_cast<int>(std::floor(std::log10(magnitude)));
}

struct Range {
  double smallest = 0.0;  // positive, 0 when there is none
  double largest = 0.0;
};

template <typename Magnitude>
Range range_of(const std::vector<double>& values, Magnitude magnitude_of) {
  Range range;
  for (const double value : values) {
    const double magnitude = magnitude_of(value);
    if (!(magnitude > 0.0) || !std::isfinite(magnitude)) continue;
    range.smallest = range.smallest > 0.0 ? std::min(range.smallest, magnitude) : magnitude;
    range.largest = std::max(range.largest, magnitude);
  }
  return range;
}

std::string fixed(double value, int decimals) {
  std::string text = fmt::format("{:.{}f}", value, decimals);
  // "-0.000" says nothing that "0.000" does not.
  if (text.front() == '-' && text.find_first_not_of("-0.") == std::string::npos) text.erase(0, 1);
  return text;
}

}  // namespace

std::string NumberFormat::write(double value) const {
  const double shown = value / scale;
  const bool lost = shown != 0.0 && std::abs(shown) < std::pow(10.0, -decimals);
  return lost && kind == NumberKind::magnitude ? fmt::format("{:.1e}", shown) : fixed(shown, decimals);
}

std::string NumberFormat::write_spread(double spread) const {
  return fixed(spread / scale, decimals);
}

NumberFormat choose_size_format(const std::vector<double>& sizes) {
  NumberFormat format;
  format.decimals = least_size_decimals;
  const auto exact = [&](double size) {
    const double scaled = size * std::pow(10.0, format.decimals);
    return std::abs(scaled - std::round(scaled)) < size_rounding;
  };
  while (format.decimals < most_size_decimals && !std::all_of(sizes.begin(), sizes.end(), exact))
    ++format.decimals;
  return format;
}

NumberFormat choose_format(const std::vector<double>& values, NumberKind kind) {
  NumberFormat format;
  format.kind = kind;
  Range range = range_of(values, [](double value) { return std::abs(value); });
  if (range.largest <= 0.0) return format;
  if (range.smallest >= scale_threshold) {
    format.scale = std::pow(1000.0, exponent_of(range.smallest) / 3);
    range.smallest /= format.scale;
    range.largest /= format.scale;
  }
  const double leading = kind == NumberKind::near_zero ? range.largest : range.smallest;
  const int room = largest_digits - 1 - exponent_of(range.largest);
  format.decimals = std::clamp(significant_digits - 1 - exponent_of(leading), 0, std::max(0, room));
  if (kind == NumberKind::near_one) {
    const Range distance = range_of(values, [](double value) { return std::abs(value - 1.0); });
    if (distance.smallest > 0.0) {
      const int decimals = std::min(distance_decimals, distance_digits - 1 - exponent_of(distance.smallest));
      format.decimals = std::max(format.decimals, decimals);
    }
  }
  return format;
}

}  // namespace rotorquant::evaluation
