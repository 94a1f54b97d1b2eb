#pragma once
// Figures from reports alone, one set for each dump:
//
//   pareto     stored bits a value (side data included) against attention KL, and the front of the best
//   spread     attention KL of every quantizer and width: mean, and from the least to the greatest seed
//   layers     attention KL by layer, at one width
//   positions  attention KL by position in the sequence, at one width
//   ladder     attention KL by rotation, from none to dense, of quantizers that differ in nothing else
//
// A dump without queries has key NMSE instead, and no figure by position. A figure that would show a single
// point is left out.
#include <cstdint>
#include <optional>
#include <vector>

#include "evaluation/figures/figure.hpp"
#include "evaluation/report/report_reader.hpp"

namespace rotorquant::evaluation {

struct FigureOptions {
  std::optional<std::int64_t>
      bits;  // width of `layers` and `positions`; by default the middle one of each dump
};

// No row at the width asked for is an Error that names those there are.
std::vector<Figure> report_figures(const std::vector<ReportFile>& reports, const FigureOptions& options);

}  // namespace rotorquant::evaluation
