#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "evaluation/metrics/attention.hpp"
#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/metrics/oracle.hpp"
#include "evaluation/metrics/random_head.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::HeadShape;
using testing::oracle;
using testing::RandomHead;

// What the two ways of computing a metric in float64 may differ by.
constexpr double relative_tolerance = 1e-9;
// KL and mean errors are differences of numbers near 1, or near the softmax scale where that is large, each
// rounded at 1e-16.
constexpr double absolute_tolerance = 1e-14;

double metric(const std::vector<double>& metrics, Metric which) {
  return metrics[static_cast<std::size_t>(which)];
}

void expect_metrics(const std::vector<double>& measured, const std::vector<double>& expected,
                    double magnitude = 1.0) {
  ASSERT_EQ(measured.size(), metric_registry().size());
  ASSERT_EQ(expected.size(), measured.size());
  for (std::size_t m = 0; m < measured.size(); ++m) {
    const std::string& tag = metric_registry()[m].tag;
    if (std::isnan(expected[m])) {
      EXPECT_TRUE(std::isnan(measured[m])) << tag << " is " << measured[m];
    } else {
      EXPECT_NEAR(measured[m], expected[m],
                  relative_tolerance * std::abs(expected[m]) + magnitude * absolute_tolerance)
          << tag;
    }
  }
}

std::vector<double> evaluate(const RandomHead& head, std::int64_t max_bytes = default_reference_bytes) {
  AttentionWorkspace workspace;
  const AttentionReference reference(head.tensors, max_bytes);
  return evaluate_cell(reference, head.key_estimate(), head.value_estimate(), workspace);
}

struct OracleCase {
  const char* name;
  HeadShape shape;
  bool causal = true;
  std::int64_t min_context = 0;
};

class MetricsEqualOracle : public ::testing::TestWithParam<OracleCase> {};

TEST_P(MetricsEqualOracle, WithAndWithoutStoredProbabilities) {
  const OracleCase& c = GetParam();
  RandomHead head(c.shape, 11);
  head.tensors.causal = c.causal;
  head.tensors.min_context = c.min_context;
  const std::vector<double> expected = oracle(head.tensors, head.key_estimate(), head.value_estimate());
  expect_metrics(evaluate(head), expected);
  expect_metrics(evaluate(head, 0), expected);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, MetricsEqualOracle,
    ::testing::Values(
        OracleCase{"grouped", {130, 64, 64, 3, 130}}, OracleCase{"one_channel", {40, 1, 1, 1, 40}},
        OracleCase{"two_channels", {33, 2, 2, 2, 33}}, OracleCase{"five_channels", {64, 5, 5, 4, 64}},
        OracleCase{"odd_large_dim", {70, 257, 257, 1, 70}}, OracleCase{"wider_values", {50, 8, 40, 2, 50}},
        OracleCase{"narrower_values", {50, 40, 3, 2, 50}}, OracleCase{"last_queries", {200, 16, 16, 2, 17}},
        OracleCase{"bidirectional", {90, 24, 24, 2, 90}, false},
        OracleCase{"more_queries_than_keys", {9, 16, 16, 1, 30}, false},
        OracleCase{"min_context", {100, 16, 16, 3, 100}, true, 64},
        OracleCase{"bidirectional_min_context", {100, 16, 16, 1, 100}, false, 50},
        OracleCase{"many_blocks", {700, 8, 8, 3, 700}}, OracleCase{"deep_sum", {300, 130, 4, 1, 300}}),
    [](const auto& parameter) { return std::string(parameter.param.name); });

TEST(Attention, QueriesInAnyOrderAndBeyondTheKeys) {
  RandomHead head({60, 12, 12, 2, 6}, 3);
  head.tensors.query_positions = {59, 3, 0, 200, 31, 3};
  const std::vector<double> expected = oracle(head.tensors, head.key_estimate(), head.value_estimate());
  expect_metrics(evaluate(head), expected);
}

TEST(Attention, LargeScoresNeitherOverflowNorLoseTheDivergence) {
  RandomHead head({80, 16, 16, 1, 80}, 5);
  head.tensors.softmax_scale = 300.0;  // probabilities far below the smallest float64 number
  const std::vector<double> expected = oracle(head.tensors, head.key_estimate(), head.value_estimate());
  ASSERT_GT(metric(expected, Metric::attention_kl), 1.0);
  expect_metrics(evaluate(head), expected, head.tensors.softmax_scale);
}

TEST(Attention, SmallDivergencesKeepTheirDigits) {
  RandomHead head({64, 32, 32, 2, 64}, 6, 1e-3);
  const std::vector<double> expected = oracle(head.tensors, head.key_estimate(), head.value_estimate());
  ASSERT_LT(metric(expected, Metric::attention_kl), 1e-5);
  ASSERT_GT(metric(expected, Metric::attention_kl), 1e-7);
  expect_metrics(evaluate(head), expected);
}

// Repeated keys score equally, bit for bit, wherever in a block they stand: the lower index wins, as in the
// oracle.
TEST(Attention, TiesGoToTheLowerIndex) {
  for (const std::int64_t dim : {1, 2, 3, 64}) {
    RandomHead head({150, dim, 4, 3, 150}, 8);
    for (std::size_t i = 0; i < head.key_hat.size(); ++i) {
      const std::size_t channel = i % static_cast<std::size_t>(dim);
      const std::size_t token = i / static_cast<std::size_t>(dim);
      head.key_hat[i] =
          head.keys[(token % 7) * static_cast<std::size_t>(dim) + channel] > 0.0F ? 0.7F : -0.7F;
    }
    SCOPED_TRACE(dim);
    const std::vector<double> expected = oracle(head.tensors, head.key_estimate(), head.value_estimate());
    const std::vector<double> measured = evaluate(head);
    EXPECT_EQ(metric(measured, Metric::attention_top1), metric(expected, Metric::attention_top1));
    EXPECT_NEAR(metric(measured, Metric::attention_top8), metric(expected, Metric::attention_top8),
                absolute_tolerance);
  }
}

TEST(Attention, RecomputedProbabilitiesGiveTheSameBits) {
  const RandomHead head({300, 24, 20, 3, 300}, 9);
  const AttentionReference stored(head.tensors);
  const AttentionReference recomputed(head.tensors, 0);
  ASSERT_TRUE(stored.keeps_probabilities());
  ASSERT_FALSE(recomputed.keeps_probabilities());
  EXPECT_EQ(evaluate(head), evaluate(head, 0));
}

TEST(Attention, BudgetDecidesWhatIsKept) {
  const RandomHead head({64, 8, 8, 1, 64}, 9);
  // 64 rows of 64 + 16 float64, twice.
  constexpr std::int64_t needed = 2 * 64 * 80 * 8;
  EXPECT_TRUE(AttentionReference(head.tensors, needed).keeps_probabilities());
  EXPECT_FALSE(AttentionReference(head.tensors, needed - 1).keeps_probabilities());
}

TEST(Attention, AWorkspaceCarriesNothingFromCellToCell) {
  const RandomHead large({200, 48, 40, 2, 200}, 1);
  const RandomHead small({20, 3, 5, 1, 20}, 2);
  AttentionWorkspace workspace;
  for (const std::int64_t budget : {default_reference_bytes, std::int64_t{0}}) {
    const AttentionReference large_reference(large.tensors, budget);
    const AttentionReference small_reference(small.tensors, budget);
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(evaluate_cell(large_reference, large.key_estimate(), large.value_estimate(), workspace),
                evaluate(large));
      EXPECT_EQ(evaluate_cell(small_reference, small.key_estimate(), small.value_estimate(), workspace),
                evaluate(small));
    }
  }
}

TEST(Attention, ThreadsShareAReference) {
  const RandomHead head({120, 16, 16, 2, 120}, 4);
  const std::vector<double> expected = evaluate(head);
  for (const std::int64_t budget : {default_reference_bytes, std::int64_t{0}}) {
    const AttentionReference reference(head.tensors, budget);
    std::vector<std::vector<double>> measured(8);
    std::vector<std::thread> threads;
    for (std::vector<double>& out : measured) {
      threads.emplace_back([&] {
        AttentionWorkspace workspace;
        for (int round = 0; round < 5; ++round) {
          out = evaluate_cell(reference, head.key_estimate(), head.value_estimate(), workspace);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::vector<double>& out : measured) EXPECT_EQ(out, expected);
  }
}

TEST(Attention, ExactReconstructionHasNoError) {
  RandomHead head({90, 16, 16, 2, 90}, 12);
  head.key_hat = head.keys;
  head.value_hat = head.values;
  const std::vector<double> m = evaluate(head);
  for (const Metric zero : {Metric::key_mse, Metric::key_nmse, Metric::value_mse, Metric::value_nmse,
                            Metric::ip_bias, Metric::ip_rmse, Metric::score_rmse, Metric::attention_kl}) {
    EXPECT_EQ(metric(m, zero), 0.0) << metric_registry()[static_cast<std::size_t>(zero)].tag;
  }
  // The exact outputs come from normalised weights, the others are normalised afterwards: equal but for
  // rounding.
  for (const Metric zero :
       {Metric::output_nmse, Metric::output_nmse_keys_only, Metric::output_nmse_values_only}) {
    EXPECT_LT(metric(m, zero), 1e-28);
  }
  for (const Metric one : {Metric::ip_slope, Metric::attention_top1}) EXPECT_EQ(metric(m, one), 1.0);
  for (const Metric one :
       {Metric::key_cosine, Metric::value_cosine, Metric::ip_correlation, Metric::attention_top8}) {
    EXPECT_NEAR(metric(m, one), 1.0, absolute_tolerance);
  }
}

TEST(Attention, ShrunkKeysShowInTheSlope) {
  RandomHead head({50, 8, 8, 1, 50}, 13);
  for (std::size_t i = 0; i < head.keys.size(); ++i) head.key_hat[i] = 0.5F * head.keys[i];
  const std::vector<double> m = evaluate(head);
  EXPECT_NEAR(metric(m, Metric::ip_slope), 0.5, 1e-12);
  EXPECT_NEAR(metric(m, Metric::ip_correlation), 1.0, 1e-12);
  EXPECT_NEAR(metric(m, Metric::key_nmse), 0.25, 1e-12);
  EXPECT_NEAR(metric(m, Metric::key_cosine), 1.0, 1e-12);
  EXPECT_EQ(metric(m, Metric::attention_top1), 1.0);  // the order of the scores is kept
}

TEST(Attention, OneToken) {
  const RandomHead head({1, 4, 4, 1, 1}, 14);
  const std::vector<double> m = evaluate(head);
  EXPECT_EQ(metric(m, Metric::attention_kl), 0.0);
  EXPECT_EQ(metric(m, Metric::attention_top1), 1.0);
  EXPECT_EQ(metric(m, Metric::attention_top8), 1.0);
  EXPECT_TRUE(std::isnan(metric(m, Metric::ip_slope)));  // one pair has no slope
  EXPECT_TRUE(std::isnan(metric(m, Metric::ip_correlation)));
  EXPECT_GT(metric(m, Metric::ip_rmse), 0.0);
  EXPECT_NEAR(metric(m, Metric::output_nmse), metric(m, Metric::value_nmse), absolute_tolerance);
}

TEST(Attention, ConstantTruthHasNoSlope) {
  RandomHead head({40, 8, 8, 1, 40}, 15);
  for (std::size_t i = 8; i < head.keys.size(); ++i) head.keys[i] = head.keys[i % 8];
  for (std::size_t i = 8; i < head.queries[0].size(); ++i) head.queries[0][i] = head.queries[0][i % 8];
  const std::vector<double> m = evaluate(head);
  EXPECT_TRUE(std::isnan(metric(m, Metric::ip_slope)));
  EXPECT_TRUE(std::isnan(metric(m, Metric::ip_correlation)));
  EXPECT_GT(metric(m, Metric::attention_kl), 0.0);
}

TEST(Attention, KeysDecodedToZero) {
  RandomHead head({40, 8, 8, 2, 40}, 16);
  std::fill(head.key_hat.begin(), head.key_hat.end(), 0.0F);
  const std::vector<double> m = evaluate(head);
  EXPECT_NEAR(metric(m, Metric::ip_slope), 0.0, 1e-12);
  EXPECT_TRUE(std::isnan(metric(m, Metric::ip_correlation)));
  EXPECT_EQ(metric(m, Metric::key_nmse), 1.0);
  EXPECT_EQ(metric(m, Metric::key_cosine), 0.0);
  EXPECT_TRUE(std::isfinite(metric(m, Metric::attention_kl)));
}

TEST(Attention, ZeroTensors) {
  RandomHead head({20, 8, 8, 1, 20}, 17);
  for (std::vector<float>* tensor : {&head.keys, &head.values, &head.key_hat, &head.value_hat}) {
    std::fill(tensor->begin(), tensor->end(), 0.0F);
  }
  const std::vector<double> m = evaluate(head);
  for (const Metric none : {Metric::key_nmse, Metric::key_cosine, Metric::value_nmse, Metric::value_cosine,
                            Metric::ip_slope, Metric::ip_correlation, Metric::output_nmse,
                            Metric::output_nmse_keys_only, Metric::output_nmse_values_only}) {
    EXPECT_TRUE(std::isnan(metric(m, none))) << metric_registry()[static_cast<std::size_t>(none)].tag;
  }
  EXPECT_EQ(metric(m, Metric::key_mse), 0.0);
  EXPECT_EQ(metric(m, Metric::attention_kl), 0.0);
  EXPECT_EQ(metric(m, Metric::attention_top1), 1.0);
}

TEST(Attention, SomeZeroKeysAreLeftOutOfTheCosine) {
  RandomHead head({30, 8, 8, 1, 30}, 18);
  std::fill(head.keys.begin(), head.keys.begin() + 5 * 8, 0.0F);
  std::fill(head.key_hat.begin(), head.key_hat.begin() + 5 * 8, 0.0F);
  const std::vector<double> expected = oracle(head.tensors, head.key_estimate(), head.value_estimate());
  EXPECT_GT(metric(expected, Metric::key_cosine), 0.9);
  expect_metrics(evaluate(head), expected);
}

TEST(Attention, WithoutQueriesOnlyReconstructionIsMeasured) {
  RandomHead no_queries({30, 8, 6, 1, 30}, 19);
  RandomHead none_left({30, 8, 6, 1, 30}, 19);
  no_queries.tensors.queries.clear();
  no_queries.tensors.query_positions.clear();
  none_left.tensors.min_context = 30;
  EXPECT_EQ(AttentionReference(none_left.tensors).num_rows(), 0);
  for (const RandomHead* head : {&no_queries, &none_left}) {
    const std::vector<double> m = evaluate(*head);
    for (std::size_t i = 0; i < m.size(); ++i) {
      EXPECT_EQ(std::isnan(m[i]), metric_registry()[i].needs_queries) << metric_registry()[i].tag;
    }
  }
}

TEST(Attention, RefusesShapesThatDoNotFit) {
  const RandomHead head({10, 4, 3, 2, 10}, 20);
  const auto refused = [&](auto change) {
    HeadTensors tensors = head.tensors;
    change(tensors);
    EXPECT_THROW(AttentionReference{tensors}, Error);
  };
  refused([](HeadTensors& t) { t.keys.rows = 0; });
  refused([](HeadTensors& t) { t.values.rows = 9; });
  refused([](HeadTensors& t) { t.queries[1].cols = 3; });
  refused([](HeadTensors& t) { t.queries[1].rows = 9; });
  refused([](HeadTensors& t) { t.query_positions.pop_back(); });
  refused([](HeadTensors& t) { t.query_positions[0] = -1; });
  refused([](HeadTensors& t) { t.softmax_scale = 0.0; });
  refused([](HeadTensors& t) { t.min_context = -1; });

  const AttentionReference reference(head.tensors);
  AttentionWorkspace workspace;
  EXPECT_THROW(evaluate_cell(reference, head.value_estimate(), head.value_estimate(), workspace), Error);
  EXPECT_THROW(evaluate_cell(reference, head.key_estimate(), head.key_estimate(), workspace), Error);
}

// With a window, every query by itself meets the cache as it is when that query is the newest: the metrics of
// all are the means of those of each, against keys and values merged by hand.
TEST(Window, EveryQuerySeesTheCacheOfItsOwnTime) {
  constexpr std::int64_t tokens = 41;
  const HeadShape shape{.tokens = tokens, .dim = 7, .value_dim = 5, .query_heads = 2, .queries = tokens};
  const RandomHead head(shape, 23, 0.5);
  SeenTensor keys{head.key_estimate(), head.tensors.keys, {}};
  SeenTensor values{head.value_estimate(), head.tensors.values, {}};
  for (std::int64_t n = 0; n <= tokens; ++n) {
    keys.coded_end.push_back(n / 8 * 8);  // in blocks
    values.coded_end.push_back(std::max<std::int64_t>(0, n - 6));
  }
  AttentionWorkspace workspace;
  const std::vector<double> measured =
      evaluate_cell(AttentionReference(head.tensors), keys, values, workspace);

  const auto merged = [](const SeenTensor& seen, std::int64_t visible) {
    std::vector<float> out(seen.coded.data, seen.coded.data + seen.coded.size());
    const std::int64_t begin = seen.coded_end[static_cast<std::size_t>(visible)];
    std::copy(seen.recent.row(begin), seen.recent.row(visible), out.begin() + begin * seen.coded.cols);
    return out;
  };
  std::vector<double> expected(metric_registry().size(), 0.0);
  double energy = 0.0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    HeadTensors one = head.tensors;
    for (HostView<const float>& queries : one.queries) queries = queries.row_range(t, 1);
    one.query_positions = {t};
    const AttentionReference reference(one);
    const std::vector<float> key_hat = merged(keys, t + 1), value_hat = merged(values, t + 1);
    const std::vector<double> metrics =
        evaluate_cell(reference, HostView<const float>{key_hat.data(), tokens, shape.dim},
                      HostView<const float>{value_hat.data(), tokens, shape.value_dim}, workspace);
    for (const Metric m : {Metric::attention_kl, Metric::attention_top1, Metric::attention_top8})
      expected[static_cast<std::size_t>(m)] += metric(metrics, m) / tokens;
    for (const Metric m :
         {Metric::output_nmse, Metric::output_nmse_keys_only, Metric::output_nmse_values_only})
      expected[static_cast<std::size_t>(m)] += metric(metrics, m) * reference.output_energy();
    energy += reference.output_energy();
  }
  for (const Metric m : {Metric::output_nmse, Metric::output_nmse_keys_only, Metric::output_nmse_values_only})
    expected[static_cast<std::size_t>(m)] /= energy;
  for (const Metric m :
       {Metric::attention_kl, Metric::attention_top1, Metric::attention_top8, Metric::output_nmse,
        Metric::output_nmse_keys_only, Metric::output_nmse_values_only}) {
    const double value = expected[static_cast<std::size_t>(m)];
    EXPECT_NEAR(metric(measured, m), value, relative_tolerance * value + absolute_tolerance)
        << metric_registry()[static_cast<std::size_t>(m)].tag;
  }
  // The window is worth something, and the error of vectors is that of the codes.
  const std::vector<double> without =
      evaluate_cell(AttentionReference(head.tensors), head.key_estimate(), head.value_estimate(), workspace);
  EXPECT_LT(metric(measured, Metric::attention_kl), 0.9 * metric(without, Metric::attention_kl));
  EXPECT_EQ(metric(measured, Metric::key_nmse), metric(without, Metric::key_nmse));
  keys.coded_end.pop_back();
  EXPECT_THROW(evaluate_cell(AttentionReference(head.tensors), keys, values, workspace), Error);
}

}  // namespace
}  // namespace rotorquant::evaluation
