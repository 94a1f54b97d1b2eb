#pragma once
// What a method loses against what it stores: its measured widths as points of a curve, and the curve at any
// size between them.
#include <optional>
#include <span>
#include <vector>

namespace rotorquant::evaluation {

struct RatePoint {
  double bits = 0.0;  // stored bits a value, side data included
  double loss = 0.0;  // lower is better
};

// The loss at `bits`: between the two nearest points linear in log loss (an error falls by a constant factor
// a bit), or in the loss itself where one of the two is not positive. Nothing outside the points: curves are
// not extrapolated. points: any order; of several of the same size the best counts.
std::optional<double> loss_at(std::span<const RatePoint> points, double bits);

// Whether no point of `others` is at least as good in size and loss and better in one.
bool on_front(const RatePoint& point, std::span<const RatePoint> others);

}  // namespace rotorquant::evaluation
