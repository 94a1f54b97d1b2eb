#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "evaluation/report/sample.hpp"
#include "evaluation/statistics/rank_correlation.hpp"

namespace rotorquant::evaluation {
namespace {

using Values = std::vector<double>;

TEST(Spearman, IsOneForAnyRisingRelation) {
  EXPECT_DOUBLE_EQ(*spearman(Values{1, 2, 3, 4}, Values{-5, 0, 0.5, 1e9}), 1.0);
  EXPECT_DOUBLE_EQ(*spearman(Values{1, 2, 3, 4}, Values{4, 3, 2, 1}), -1.0);
}

// By hand: ranks 1 2 3 4 5 against 2 1 4 3 5, 1 - 6 sum d^2 / (n (n^2 - 1)) with sum d^2 = 4.
TEST(Spearman, EqualsTheClassicalFormula) {
  EXPECT_DOUBLE_EQ(*spearman(Values{10, 20, 30, 40, 50}, Values{2, 1, 4, 3, 5}), 1.0 - 24.0 / 120.0);
}

// Ties take their mean rank: 1.5 1.5 3 against 1 2 3 correlate as 1.5 / sqrt(1.5 * 2).
TEST(Spearman, GivesTiesTheirMeanRank) {
  EXPECT_DOUBLE_EQ(*spearman(Values{7, 7, 9}, Values{1, 2, 3}), 1.5 / std::sqrt(3.0));
}

TEST(Spearman, IsUndefinedForTooFewOrConstantValues) {
  EXPECT_FALSE(spearman(Values{1, 2}, Values{1, 2}));
  EXPECT_FALSE(spearman(Values{1, 1, 1}, Values{1, 2, 3}));
}

Row row_of(std::int64_t setting, double nmse, double cosine, double kl) {
  Row row;
  row.setting = setting;
  for (const auto& [tag, value] :
       {std::pair{"key/nmse", nmse}, {"key/cosine", cosine}, {"attention/kl", kl}}) {
    MetricSummary summary;
    summary.tag = tag;
    summary.mean = value;
    row.metrics.push_back(summary);
  }
  return row;
}

const RankCorrelation& find(const std::vector<RankCorrelation>& all, const std::string& metric) {
  return *std::find_if(all.begin(), all.end(), [&](const RankCorrelation& c) { return c.metric == metric; });
}

// Three settings at 2 bits and three at 3: more bits are better by every metric, but inside a width NMSE
// ranks the wrong way round.
TEST(RankCorrelations, SeparateTheWidths) {
  SweepResult result;
  result.datasets.resize(1);
  for (const int bits : {2, 2, 2, 3, 3, 3}) result.settings.push_back(testing::make_setting("q", bits, 16));
  const std::vector<Row> rows = {row_of(0, .10, .90, 3.0), row_of(1, .11, .91, 2.0),
                                 row_of(2, .12, .92, 1.0), row_of(3, .02, .97, .30),
                                 row_of(4, .03, .98, .20), row_of(5, .04, .99, .10)};
  const std::vector<RankCorrelation> found = rank_correlations(result, rows);
  const RankCorrelation& nmse = find(found, "key/nmse");
  EXPECT_EQ(nmse.target, "attention/kl");
  EXPECT_EQ(nmse.rows, 6);
  EXPECT_GT(*nmse.overall, 0.5);
  EXPECT_DOUBLE_EQ(*nmse.within, -1.0);
  // A cosine counts as the loss 1 - cosine.
  EXPECT_DOUBLE_EQ(*find(found, "key/cosine").overall, 1.0);
  EXPECT_DOUBLE_EQ(*find(found, "key/cosine").within, 1.0);
  for (const RankCorrelation& c : found) EXPECT_NE(c.target, "output/nmse");  // no row has it
}

}  // namespace
}  // namespace rotorquant::evaluation
