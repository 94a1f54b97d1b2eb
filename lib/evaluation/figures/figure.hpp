#pragma once
// A figure between a report and its drawing: what gnuplot and an HTML page need to know, and nothing of
// either.
#include <string>
#include <vector>

namespace rotorquant::evaluation {

struct FigurePoint {
  double x = 0.0;
  double y = 0.0;
  double low = 0.0;  // of the bar through the point, in the direction of Figure::bars
  double high = 0.0;
  std::string source;  // where the numbers come from: "report.json rows[3]"
};

struct FigureSeries {
  std::string label;
  std::vector<FigurePoint> points;
  bool reference = false;  // a broad grey line without points, behind the others: a front
};

// A named place on an axis of words.
struct FigureTick {
  double at = 0.0;
  std::string label;
};

struct FigureAxis {
  std::string label;
  bool log = false;
  std::vector<FigureTick> ticks;  // empty for an axis of numbers
};

enum class FigureBars { none, horizontal, vertical };

struct Figure {
  std::string name;     // of its files, unique among the figures of one call: "pareto", "pareto-2"
  std::string title;    // what is shown, in a few words
  std::string caption;  // how to read it, and of which data
  FigureAxis x;
  FigureAxis y;
  FigureBars bars = FigureBars::none;
  bool lines = true;  // joins the points of a series
  std::vector<FigureSeries> series;
};

}  // namespace rotorquant::evaluation
