// Figures of the sample sweep, whose numbers are computed by hand in sample.hpp, and their gnuplot form.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "evaluation/figures/gnuplot.hpp"
#include "evaluation/figures/report_figures.hpp"
#include "evaluation/figures/rotation_ladder.hpp"
#include "evaluation/report/sample.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::sample_report;

const Figure& named(const std::vector<Figure>& figures, const std::string& name) {
  const auto found =
      std::find_if(figures.begin(), figures.end(), [&](const Figure& figure) { return figure.name == name; });
  if (found == figures.end()) throw Error("no figure " + name);
  return *found;
}

TEST(ReportFigures, ParetoShowsWhatIsStoredAndItsFront) {
  const std::vector<ReportFile> reports{sample_report()};
  const Figure pareto = named(report_figures(reports, {}), "pareto");
  ASSERT_EQ(pareto.series.size(), 3U);
  const FigureSeries& front = pareto.series[0];
  EXPECT_TRUE(front.reference);
  // turboquant has fewer bits (3.25 against 3.375) and half the error: it is the front.
  ASSERT_EQ(front.points.size(), 1U);
  EXPECT_DOUBLE_EQ(front.points[0].x, 3.25);
  EXPECT_DOUBLE_EQ(front.points[0].y, 0.015);
  EXPECT_EQ(pareto.series[1].label, "rotorquant:tail=pad");
  EXPECT_DOUBLE_EQ(pareto.series[1].points.at(0).x, 3.375);
  EXPECT_DOUBLE_EQ(pareto.series[1].points.at(0).y, 0.03);
  EXPECT_TRUE(pareto.y.log);
}

TEST(ReportFigures, BitsCountWhatIsStoredOnceASequence) {
  ReportFile report = sample_report();
  report.json["rows"][0]["side_bits_per_value"] = 0.5;
  const Figure pareto = named(report_figures({report}, {}), "pareto");
  EXPECT_DOUBLE_EQ(pareto.series[1].points.at(0).x, 3.875);
}

TEST(ReportFigures, SpreadReachesFromSeedToSeed) {
  ReportFile report = sample_report();
  for (auto& row : report.json["rows"]) row["metrics"].erase("attention/kl");
  const Figure spread = named(report_figures({report}, {}), "spread");
  EXPECT_EQ(spread.x.label, "key NMSE");
  ASSERT_EQ(spread.y.ticks.size(), 2U);
  EXPECT_GT(spread.y.ticks[0].at, spread.y.ticks[1].at);  // the first on top
  const FigurePoint& point = spread.series.at(0).points.at(0);
  EXPECT_DOUBLE_EQ(point.x, 0.275);
  EXPECT_DOUBLE_EQ(point.low, 0.25);
  EXPECT_DOUBLE_EQ(point.high, 0.3);
}

TEST(ReportFigures, LayersLeaveOutThoseWithoutTheMetric) {
  const Figure layers = named(report_figures({sample_report()}, {}), "layers");
  ASSERT_EQ(layers.series.size(), 2U);
  ASSERT_EQ(layers.series[0].points.size(), 1U);  // attention/kl exists in layer 5 only
  EXPECT_DOUBLE_EQ(layers.series[0].points[0].x, 5.0);
  EXPECT_DOUBLE_EQ(layers.series[0].points[0].y, 0.03);
}

TEST(ReportFigures, PositionsStandInTheMiddleOfTheirEighth) {
  ReportFile report = sample_report();
  for (int eighth = 1; eighth <= 8; ++eighth) {
    report.json["rows"][0]["metrics"]["attention/kl_eighth" + std::to_string(eighth)] = {
        {"mean", 0.01 * eighth}, {"std", 0.0}, {"min", 0.0}, {"max", 0.1}, {"n", 2}};
  }
  const Figure positions = named(report_figures({report}, {}), "positions");
  ASSERT_EQ(positions.series.at(0).points.size(), 8U);
  EXPECT_DOUBLE_EQ(positions.series[0].points[7].x, 93.75);  // of 100 tokens
  EXPECT_DOUBLE_EQ(positions.series[0].points[7].y, 0.08);
}

TEST(ReportFigures, TheLadderOrdersRotationsAndNothingElse) {
  EXPECT_FALSE(rotation_rung("turboquant:scale=mse"));
  EXPECT_LT(rotation_rung("identity")->order, rotation_rung("rotorquant")->order);
  EXPECT_LT(rotation_rung("rotorquant")->order, rotation_rung("turboquant")->order);

  ReportFile report = sample_report();
  auto& rows = report.json["rows"];
  const auto template_row = rows[0];
  rows.clear();
  for (const char* keys : {"turboquant", "identity", "rotorquant", "turboquant:codec=trellis"}) {
    auto row = template_row;
    row["keys"] = row["quantizer"] = keys;
    rows.push_back(row);
  }
  const Figure ladder = named(report_figures({report}, {}), "ladder");
  ASSERT_EQ(ladder.x.ticks.size(), 3U);
  EXPECT_EQ(ladder.x.ticks[0].label, "none");
  EXPECT_EQ(ladder.x.ticks[2].label, "dense");
  EXPECT_EQ(ladder.series.at(0).points.at(0).source, "runs/report.json rows[1]");
}

TEST(ReportFigures, AWidthNobodyMeasuredIsRefused) {
  FigureOptions options;
  options.bits = 7;
  try {
    report_figures({sample_report()}, options);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("7 bits"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("present: 3"), std::string::npos) << error.what();
  }
}

TEST(Gnuplot, DataComesInBlocksWithItsSources) {
  Figure figure;
  figure.name = "f";
  figure.title = "two\nlines";
  figure.series = {{"a", {{1.0, 0.1, 0.05, 0.2, "r.json rows[0]"}}, false},
                   {"b", {{2.0, 1e-300, 0.0, 1.0, "x"}}, true}};
  EXPECT_EQ(gnuplot_data(figure),
            "# two lines: \n# x y low high source\n# a\n1 0.1 0.05 0.2 # r.json rows[0]\n\n\n# b\n2 1e-300 0 "
            "1 # x\n");
}

TEST(Gnuplot, ScriptsQuoteWhatPeopleWrote) {
  Figure figure;
  figure.name = "f";
  figure.series = {{"q\"; system(\"x\"); \\", {{1.0, 2.0, 2.0, 2.0, ""}}, false}};
  const std::string script = gnuplot_script(figure);
  EXPECT_NE(script.find("title \"q\\\"; system(\\\"x\\\"); \\\\\""), std::string::npos) << script;
  EXPECT_THROW(check_picture_format("gif"), UsageError);
}

}  // namespace
}  // namespace rotorquant::evaluation
