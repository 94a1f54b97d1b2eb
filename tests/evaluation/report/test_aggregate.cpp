#include <gtest/gtest.h>

#include <cmath>

#include "evaluation/report/aggregate.hpp"
#include "evaluation/report/sample.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::make_cell;
using testing::sample_sweep;

constexpr double tolerance = 1e-15;  // sums of a few decimals below 1, in float64

const MetricSummary& summary_of(const std::vector<MetricSummary>& summaries, const std::string& tag) {
  for (const MetricSummary& summary : summaries) {
    if (summary.tag == tag) return summary;
  }
  throw Error("no summary of " + tag);
}

TEST(Aggregate, AveragesCellsThenSeeds) {
  const std::vector<Row> rows = aggregate(sample_sweep());
  ASSERT_EQ(rows.size(), 2U);
  const MetricSummary& nmse = summary_of(rows[0].metrics, "key/nmse");
  EXPECT_EQ(nmse.n, 2);
  EXPECT_NEAR(nmse.mean, 0.275, tolerance);
  EXPECT_NEAR(nmse.std, 0.05 / std::sqrt(2.0), tolerance);
  EXPECT_NEAR(nmse.min, 0.25, tolerance);
  EXPECT_NEAR(nmse.max, 0.30, tolerance);
  EXPECT_EQ(nmse.missing_cells, 0);
  EXPECT_NEAR(summary_of(rows[1].metrics, "key/nmse").mean, 0.1375, tolerance);
}

TEST(Aggregate, WorstCellIsTheWorstSeedAverage) {
  SweepResult result = sample_sweep();
  const std::vector<Row> rows = aggregate(result);
  const MetricSummary& nmse = summary_of(rows[0].metrics, "key/nmse");
  ASSERT_TRUE(nmse.worst);
  EXPECT_EQ(nmse.worst->layer, 5);
  EXPECT_EQ(nmse.worst->kv_head, 1);
  EXPECT_NEAR(nmse.worst->value, 0.4, tolerance);
  // Nearest to 0 is best, so that -0.5 is worse than 0.25.
  const MetricSummary& bias = summary_of(rows[0].metrics, "ip/bias");
  EXPECT_EQ(bias.worst->layer, 3);
  EXPECT_EQ(bias.worst->kv_head, 0);
  EXPECT_EQ(bias.worst->value, -0.5);
}

TEST(Aggregate, WorseFollowsTheMetricsSense) {
  EXPECT_TRUE(is_worse(Better::lower, 2.0, 1.0));
  EXPECT_TRUE(is_worse(Better::higher, 1.0, 2.0));
  EXPECT_TRUE(is_worse(Better::zero, -2.0, 1.0));
  EXPECT_TRUE(is_worse(Better::one, 0.5, 1.4));
  EXPECT_FALSE(is_worse(Better::one, 1.4, 0.5));
  EXPECT_FALSE(is_worse(Better::lower, 1.0, 1.0));
}

TEST(Aggregate, LeavesOutWhatNoCellHasAndCountsMissingCells) {
  const std::vector<Row> rows = aggregate(sample_sweep());
  for (const MetricSummary& summary : rows[0].metrics) EXPECT_NE(summary.tag, "output/nmse");
  const MetricSummary& kl = summary_of(rows[0].metrics, "attention/kl");
  EXPECT_EQ(kl.missing_cells, 2);
  EXPECT_NEAR(kl.mean, 0.03, tolerance);
  EXPECT_EQ(kl.worst->layer, 5);
}

TEST(Aggregate, ACellMissingForOneSeedIsMissingForAll) {
  SweepResult result = sample_sweep();
  result.cells[3].metrics[metric_index("key/nmse")] =
      std::numeric_limits<double>::quiet_NaN();  // seed 0, (5,1)
  const std::vector<Row> rows = aggregate(result);
  const MetricSummary& nmse = summary_of(rows[0].metrics, "key/nmse");
  EXPECT_EQ(nmse.missing_cells, 1);
  EXPECT_NEAR(nmse.min, (0.1 + 0.2 + 0.3) / 3.0, tolerance);
  EXPECT_NEAR(nmse.max, (0.1 + 0.4 + 0.3) / 3.0, tolerance);
}

TEST(Aggregate, OneSeedHasNoSpread) {
  SweepResult result = sample_sweep();
  std::erase_if(result.cells, [](const Cell& cell) { return cell.seed == 1; });
  const MetricSummary nmse = summary_of(aggregate(result)[0].metrics, "key/nmse");
  EXPECT_EQ(nmse.n, 1);
  EXPECT_EQ(nmse.std, 0.0);
  EXPECT_EQ(nmse.min, nmse.max);
}

TEST(Aggregate, BitsPerValueJoinsKeysAndValues) {
  // (3·64 + 32 + 3·64 + 16) bits over 128 coordinates
  EXPECT_EQ(aggregate(sample_sweep())[0].bits_per_value, 432.0 / 128.0);
}

TEST(Aggregate, TimesAreTotalsAndRatesAreVectorsPerSecond) {
  const std::vector<Row> rows = aggregate(sample_sweep());
  EXPECT_EQ(summary_of(rows[0].timings, "time/encode").mean, 4 * 0.25);
  EXPECT_EQ(summary_of(rows[0].timings, "time/decode").mean, 4 * 0.125);
  // 4 cells of 100 keys and 100 values
  EXPECT_EQ(summary_of(rows[0].timings, "throughput/encode").mean, 800.0 / 1.0);
  EXPECT_EQ(summary_of(rows[0].timings, "throughput/decode").mean, 800.0 / 0.5);
}

TEST(Aggregate, AClockThatMeasuredNothingGivesNoRate) {
  SweepResult result = sample_sweep();
  for (Cell& cell : result.cells) cell.encode_seconds = 0.0;
  const std::vector<Row> rows = aggregate(result);
  for (const MetricSummary& summary : rows[0].timings) EXPECT_NE(summary.tag, "throughput/encode");
}

TEST(Aggregate, SeedsThatCoverOtherCellsAreAnError) {
  SweepResult result = sample_sweep();
  result.cells.erase(result.cells.begin() + 5);
  EXPECT_THROW(aggregate(result), Error);
}

TEST(Aggregate, NoCellsNoRows) {
  SweepResult result = sample_sweep();
  result.cells.clear();
  EXPECT_TRUE(aggregate(result).empty());
}

}  // namespace
}  // namespace rotorquant::evaluation
