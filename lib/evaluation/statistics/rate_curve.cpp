#include "evaluation/statistics/rate_curve.hpp"

#include <algorithm>
#include <cmath>

namespace rotorquant::evaluation {
namespace {

// Sizes are sums of counts over lengths: equal ones differ by rounding alone.
constexpr double same_size = 1e-9;

}  // namespace

std::optional<double> loss_at(std::span<const RatePoint> points, double bits) {
  const RatePoint* below = nullptr;
  const RatePoint* above = nullptr;
  for (const RatePoint& point : points) {
    const bool better_below = below == nullptr || point.bits > below->bits + same_size ||
                              (std::abs(point.bits - below->bits) <= same_size && point.loss < below->loss);
    if (point.bits <= bits + same_size && better_below) below = &point;
    const bool better_above = above == nullptr || point.bits < above->bits - same_size ||
                              (std::abs(point.bits - above->bits) <= same_size && point.loss < above->loss);
    if (point.bits >= bits - same_size && better_above) above = &point;
  }
  if (below == nullptr || above == nullptr) return std::nullopt;
  const double width = above->bits - below->bits;
  if (width <= same_size) return below->loss;
  const double share = std::clamp((bits - below->bits) / width, 0.0, 1.0);
  if (below->loss <= 0.0 || above->loss <= 0.0) return (1.0 - share) * below->loss + share * above->loss;
  return std::exp((1.0 - share) * std::log(below->loss) + share * std::log(above->loss));
}

bool on_front(const RatePoint& point, std::span<const RatePoint> others) {
  return std::none_of(others.begin(), others.end(), [&](const RatePoint& other) {
    const bool as_good = other.bits <= point.bits + same_size && other.loss <= point.loss;
    return as_good && (other.bits < point.bits - same_size || other.loss < point.loss);
  });
}

}  // namespace rotorquant::evaluation
