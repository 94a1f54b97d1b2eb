#pragma once
// Figures drawn by gnuplot, an external program (gnuplot 5.2 or newer with cairo and svg terminals).
//
// Each figure is a data file NAME.dat and a script NAME.gp, which stay beside the pictures: in their folder
// `gnuplot -e "format='svg'" NAME.gp` draws NAME.svg again, whoever edits them.
#include <string>
#include <vector>

#include "evaluation/figures/figure.hpp"

namespace rotorquant::evaluation {

// The names of picture formats: "pdf", "svg", "png"; anything else is a UsageError.
void check_picture_format(const std::string& name);

std::string gnuplot_data(const Figure& figure);
std::string gnuplot_script(const Figure& figure);

// Writes NAME.dat, NAME.gp and NAME.<format> of every figure to `folder`, made if missing, each under its
// name only when complete. Returns the pictures' paths. Without gnuplot, or where it fails, an Error says so
// and no picture appears.
std::vector<std::string> draw_figures(const std::vector<Figure>& figures, const std::string& folder,
                                      const std::vector<std::string>& formats);

// The figures as SVG documents, in order.
std::vector<std::string> draw_svg(const std::vector<Figure>& figures);

}  // namespace rotorquant::evaluation
