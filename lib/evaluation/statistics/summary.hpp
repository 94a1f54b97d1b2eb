#pragma once
// Summaries of a sample. An empty sample has none: NaN.
#include <span>

namespace rotorquant::evaluation {

double mean(std::span<const double> sample);

// Sample standard deviation (n - 1 in the denominator); 0 for one value.
double standard_deviation(std::span<const double> sample);

// Share `probability` of the sample lies below, 0 <= probability <= 1: linear interpolation between order
// statistics, the k-th of n (from 0) standing at k / (n - 1) (Hyndman and Fan 1996, type 7).
double quantile(std::span<const double> sample, double probability);

// exp(mean log x); 0 when a value is 0, NaN when one is negative.
double geometric_mean(std::span<const double> sample);

}  // namespace rotorquant::evaluation
