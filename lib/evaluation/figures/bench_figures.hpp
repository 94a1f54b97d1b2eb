#pragma once
// The memory roofline of benchmark reports, one figure for each shape:
//
//   roofline  bytes a second that an operation moves at least (those of an ideal program), median and quartiles of the rounds,
//             against the roof: a copy measured in the same rounds
#include <vector>

#include "evaluation/figures/figure.hpp"
#include "evaluation/report/report_reader.hpp"

namespace rotorquant::evaluation {

std::vector<Figure> bench_figures(const std::vector<ReportFile>& reports);

}  // namespace rotorquant::evaluation
