#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "evaluation/figures/gnuplot.hpp"

namespace rotorquant::evaluation {
namespace {

// Okabe and Ito's colours, which people with any colour vision can tell apart, without their yellow, too pale
// for lines.
constexpr std::array<std::string_view, 7> colours{"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                  "#E69F00", "#56B4E9", "#000000"};
constexpr std::array<int, 6> markers{7,  5,  9,
                                     11, 13, 15};  // filled: circle, square, triangles, diamond, pentagon
constexpr std::string_view reference_colour = "#d8d8d8";

constexpr int width = 640;  // pixels, and points of a PDF
constexpr int plot_height = 340;
constexpr int row_height = 22;      // of a legend line, or of a word on a vertical axis
constexpr int margin_height = 90;   // title and labels
constexpr double pdf_dots = 100.0;  // per inch

// A word of an axis or legend between gnuplot's double quotes. Escapes are the only markup there: every
// terminal is `noenhanced`.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' || c == '\r' ? ' ' : c;
  }
  return out + '"';
}

// A line of a data file's comment.
std::string comment(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '\n' || c == '\r' ? ' ' : c;
  return out;
}

// Powers of ten within a range, or 1, 2 and 5 times them where those alone would be too few.
std::vector<double> log_ticks(double least, double most) {
  constexpr std::size_t enough = 3;
  for (const std::vector<double>& steps : {std::vector<double>{1.0}, std::vector<double>{1.0, 2.0, 5.0}}) {
    std::vector<double> ticks;
    for (int power = static_cast<int>(std::floor(std::log10(least))); std::pow(10.0, power) <= most;
         ++power) {
      for (const double step : steps) {
        const double tick = step * std::pow(10.0, power);
        if (tick >= least && tick <= most) ticks.push_back(tick);
      }
    }
    if (ticks.size() >= enough || steps.size() > 1) return ticks;
  }
  return {};
}

// From the least to the greatest number along an axis, bars included.
std::pair<double, double> data_range(const Figure& figure, char axis) {
  double least = std::numeric_limits<double>::infinity(), most = -least;
  const FigureBars barred = axis == 'x' ? FigureBars::horizontal : FigureBars::vertical;
  for (const FigureSeries& series : figure.series) {
    for (const FigurePoint& point : series.points) {
      const double value = axis == 'x' ? point.x : point.y;
      least = std::min(least, figure.bars == barred ? point.low : value);
      most = std::max(most, figure.bars == barred ? point.high : value);
    }
  }
  return {least, most};
}

std::string axis_commands(const Figure& figure, char axis) {
  const FigureAxis& is = axis == 'x' ? figure.x : figure.y;
  const auto [least, most] = data_range(figure, axis);
  std::string text = fmt::format("set {}label {}\n", axis, quoted(is.label));
  std::string ticks;
  const auto add_tick = [&](const std::string& label, double at) {
    ticks += fmt::format("{}{} {:g}", ticks.empty() ? "" : ", ", quoted(label), at);
  };
  if (is.log) {
    constexpr double log_margin = 1.4;  // factor between the outermost points and the frame
    for (const double tick : log_ticks(least / log_margin, most * log_margin))
      add_tick(fmt::format("{:g}", tick), tick);
    return text + fmt::format("set logscale {0}\nset {0}range [{1:g}:{2:g}]\nset {0}tics ({3})\n", axis,
                              least / log_margin, most * log_margin, ticks);
  }
  if (!is.ticks.empty()) {
    const auto [first, last] =
        std::minmax_element(is.ticks.begin(), is.ticks.end(),
                            [](const auto& one, const auto& other) { return one.at < other.at; });
    for (const FigureTick& tick : is.ticks) add_tick(tick.label, tick.at);
    return text + fmt::format("set {0}tics ({1})\nset {0}range [{2}:{3}]\n", axis, ticks, first->at - 0.5,
                              last->at + 0.5);
  }
  constexpr double margin = 0.04;  // of the range, between the outermost points and the frame
  const double room = most > least ? margin * (most - least) : 0.5;
  const double from = axis == 'y' && least >= 0.0 ? 0.0 : least - room;
  return text + fmt::format("set {}range [{:g}:{:g}]\n", axis, from, most + room);
}

std::string plot_element(const Figure& figure, std::size_t index, std::size_t style) {
  const FigureSeries& series = figure.series[index];
  const std::string data = fmt::format("data index {}", index);
  const std::string title = quoted(series.label);
  if (series.reference) {
    return fmt::format("{} using 1:2 with lines lw 7 lc rgb \"{}\" title {}", data, reference_colour, title);
  }
  const std::string_view colour = colours[style % colours.size()];
  const int marker = markers[style % markers.size()];
  const std::string points = fmt::format("{} using 1:2 with {} lw 1.8 pt {} ps 0.9 lc rgb \"{}\"{} title {}",
                                         data, figure.lines ? "linespoints" : "points", marker, colour,
                                         // A second round of colours has other lines.
                                         figure.lines && style >= colours.size() ? " dt 4" : "", title);
  if (figure.bars == FigureBars::none) return points;
  const bool across = figure.bars == FigureBars::horizontal;
  return fmt::format("{} using 1:2:3:4 with {} lw 1.8 ps 0 lc rgb \"{}\" notitle, \\\n  {}", data,
                     across ? "xerrorbars" : "yerrorbars", colour, points);
}

}  // namespace

std::string gnuplot_data(const Figure& figure) {
  std::string text =
      fmt::format("# {}: {}\n# x y low high source\n", comment(figure.title), comment(figure.caption));
  for (std::size_t i = 0; i < figure.series.size(); ++i) {
    if (i > 0) text += "\n\n";  // what separates one `index` from the next
    text += fmt::format("# {}\n", comment(figure.series[i].label));
    for (const FigurePoint& point : figure.series[i].points) {
      text +=
          fmt::format("{} {} {} {} # {}\n", point.x, point.y, point.low, point.high, comment(point.source));
    }
  }
  return text;
}

std::string gnuplot_script(const Figure& figure) {
  // Two columns of the legend fit side by side where no label is longer than this.
  constexpr std::size_t longest_of_two_columns = 24;
  std::size_t longest = 0;
  for (const FigureSeries& series : figure.series) longest = std::max(longest, series.label.size());
  const std::size_t key_columns = longest <= longest_of_two_columns ? 2 : 1;
  const std::size_t key_rows = (figure.series.size() + key_columns - 1) / key_columns;
  const int height = margin_height + row_height * static_cast<int>(key_rows) +
                     std::max(plot_height, row_height * static_cast<int>(figure.y.ticks.size()));
  std::string text = fmt::format(
      "# {0}\n"
      "# gnuplot -e \"format='svg'\" {1}.gp draws {1}.svg; the formats are pdf, svg and png.\n"
      "if (!exists(\"format\")) format = \"svg\"\n"
      "data = \"{1}.dat\"\n"
      "if (format eq \"pdf\") set terminal pdfcairo noenhanced font \"sans-serif,11\" size "
      "{2:.2f}in,{3:.2f}in\n"
      "if (format eq \"png\") set terminal pngcairo noenhanced font \"sans-serif,26\" size {4},{5} fontscale "
      "1 linewidth 2 "
      "pointscale 2\n"
      "if (format eq \"svg\") set terminal svg noenhanced dynamic font \"sans-serif,14\" size {6},{7} "
      "background \"white\"\n"
      "set output \"{1}.\".format\n"
      "set encoding utf8\n"
      "set title {8}\n"
      "set border 3 lc rgb \"#444444\"\n"
      "set grid lc rgb \"#dddddd\" lt 1\n"
      "set tics nomirror out\n"
      "set key below center Left reverse maxcols {9} samplen 2 height 0.6\n",
      comment(figure.title), figure.name, width / pdf_dots, height / pdf_dots, 2 * width, 2 * height, width,
      height, quoted(figure.title), key_columns);
  text += axis_commands(figure, 'x') + axis_commands(figure, 'y');
  std::size_t style = 0;
  std::string elements;
  for (std::size_t i = 0; i < figure.series.size(); ++i) {
    elements += fmt::format("{}{}", i > 0 ? ", \\\n  " : "", plot_element(figure, i, style));
    if (!figure.series[i].reference) ++style;
  }
  return text + fmt::format("plot {}\n", elements);
}

}  // namespace rotorquant::evaluation
