#pragma once
// How the numbers of one table column are written: the same number of decimals throughout, so that digits
// line up.
#include <string>
#include <vector>

namespace rotorquant::evaluation {

// What a small number means in a column.
enum class NumberKind {
  magnitude,  // its first digits matter, however small it is
  near_zero,  // a deviation from 0 or a noise level: 0.00001 beside 0.3 is as good as 0
  near_one,   // an agreement or slope: the digits of its distance from 1 matter
};

struct NumberFormat {
  NumberKind kind = NumberKind::magnitude;
  int decimals = 0;
  double scale = 1.0;  // shown = value / scale: 1 or a power of 1000, stated in the column's head

  // Fixed-point; a magnitude too small for the column's decimals is written as "8.3e-08".
  std::string write(double value) const;
  // A standard deviation: with the column's decimals whatever its size.
  std::string write_spread(double spread) const;
};

// Sizes are exact: as many decimals as they need, two at least and four at most.
NumberFormat choose_size_format(const std::vector<double>& sizes);

// magnitude: three significant digits for the smallest number, as far as that takes no more than six for the
// largest; near_zero: three for the largest; near_one: two for the smallest distance from 1, up to five
// decimals.
NumberFormat choose_format(const std::vector<double>& values, NumberKind kind);

}  // namespace rotorquant::evaluation
