#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/statistics/comparison.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr double missing = std::numeric_limits<double>::quiet_NaN();

Setting make_setting(const char* label, std::int64_t key_bits, std::int64_t value_bits) {
  Setting setting;
  setting.label = label;
  setting.bits = 3;
  setting.key_size.bits_per_vector = key_bits;
  setting.value_size.bits_per_vector = value_bits;
  return setting;
}

// value(setting, seed, layer, head) of every cell; setting 0 is the candidate "rotor", 1 the baseline "haar".
using Value = std::function<double(std::int64_t, std::uint64_t, std::int64_t, std::int64_t)>;

SweepResult sweep_of(const std::string& metric, std::uint64_t seeds, const Value& value) {
  SweepResult result;
  DatasetSummary dataset;
  dataset.head_dim = dataset.value_dim = 64;
  result.datasets = {dataset};
  result.settings = {make_setting("rotor", 208, 208), make_setting("haar", 208, 208)};
  for (std::uint64_t seed = 0; seed < seeds; ++seed) result.seeds.push_back(seed);
  for (std::int64_t setting = 0; setting < 2; ++setting) {
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      for (const std::int64_t layer : {3, 7}) {
        for (std::int64_t head = 0; head < 2; ++head) {
          Cell cell;
          cell.setting = setting;
          cell.seed = seed;
          cell.layer = layer;
          cell.kv_head = head;
          cell.metrics.assign(metric_registry().size(), missing);
          cell.metrics[metric_index(metric)] = value(setting, seed, layer, head);
          result.cells.push_back(cell);
        }
      }
    }
  }
  return result;
}

Comparison run(const SweepResult& result, const std::string& metric, bool same_codec = true) {
  const std::optional<Comparison> comparison = compare(result, {0, 0, 1, metric, same_codec});
  EXPECT_TRUE(comparison.has_value());
  return comparison.value_or(Comparison{});
}

// Relative noise of one percent, equal for equal arguments.
double noise(std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
  const auto index = static_cast<std::uint32_t>(setting * 1000 + layer * 10 + head);
  return 1.0 + 0.01 * RandomStream(seed, Purpose::synthetic, index).normal();
}

TEST(Comparison, ByHand) {
  // Candidate over baseline by cell: 4, 1, 1, 1/4 of the seeds' means; every number is known.
  const SweepResult result = sweep_of(
      "key/nmse", 2, [](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
        const double base = seed == 0 ? 1.0 : 3.0;
        if (setting == 1) return base;
        if (layer == 3 && head == 0) return 4.0 * base;
        return layer == 7 && head == 1 ? base / 4.0 : base;
      });
  const Comparison c = run(result, "key/nmse");
  EXPECT_EQ(c.candidate, "rotor");
  EXPECT_EQ(c.baseline, "haar");
  EXPECT_EQ(c.bits, 3);
  EXPECT_EQ(c.num_cells, 4);
  EXPECT_EQ(c.num_seeds, 2);
  EXPECT_DOUBLE_EQ(c.candidate_mean, 2.0 * (4.0 + 1.0 + 1.0 + 0.25) / 4.0);
  EXPECT_DOUBLE_EQ(c.baseline_mean, 2.0);
  ASSERT_EQ(c.seed_differences.size(), 2U);
  EXPECT_DOUBLE_EQ(c.seed_differences[0], 0.5625);
  EXPECT_DOUBLE_EQ(c.seed_differences[1], 3.0 * 0.5625);
  EXPECT_DOUBLE_EQ(c.difference, 1.125);
  EXPECT_NEAR(c.ratio.value(), 1.0, 1e-14);
  EXPECT_NEAR(c.worst_ratio.value(), 4.0, 1e-14);
  EXPECT_EQ(c.worst_layer, 3);
  EXPECT_EQ(c.worst_kv_head, 0);
  EXPECT_DOUBLE_EQ(c.cell_win_rate, 0.25);
  EXPECT_DOUBLE_EQ(c.seed_cell_win_rate, 0.25);
  EXPECT_DOUBLE_EQ(c.candidate_bits_per_value, 3.25);
}

TEST(Comparison, SaysWhoIsBetterWithNumbers) {
  const auto factor = [](double candidate) {
    return [candidate](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
      return (setting == 0 ? candidate : 1.0) * (layer == 3 ? 0.01 : 1.0) * noise(setting, seed, layer, head);
    };
  };
  const Comparison worse = run(sweep_of("attention/kl", 10, factor(4.0)), "attention/kl");
  EXPECT_EQ(worse.verdict, Verdict::baseline_better);
  EXPECT_EQ(worse.gate, "");
  EXPECT_NEAR(worse.ratio.value(), 4.0, 0.05);
  EXPECT_TRUE(worse.ratio_interval->contains(4.0));
  EXPECT_EQ(worse.cell_win_rate, 0.0);
  EXPECT_EQ(worse.sentence,
            "haar is better: its attention/kl is 0.25x (95% interval 0.249 to 0.252) of rotor's, better in 4 "
            "of 4 heads");

  const Comparison better = run(sweep_of("attention/kl", 10, factor(0.05)), "attention/kl");
  EXPECT_EQ(better.verdict, Verdict::candidate_better);
  EXPECT_EQ(better.cell_win_rate, 1.0);
  EXPECT_EQ(better.seed_cell_win_rate, 1.0);
  EXPECT_EQ(
      better.sentence,
      "rotor is better: its attention/kl is 0.0499x (95% interval 0.0496 to 0.0502) of haar's, better in 4 "
      "of 4 heads");
}

TEST(Comparison, EqualMethodsSeldomDiffer) {
  int decided = 0;
  constexpr int trials = 100;
  for (int trial = 0; trial < trials; ++trial) {
    const auto offset = static_cast<std::uint64_t>(trial) * 100;
    const SweepResult result = sweep_of(
        "key/nmse", 10, [&](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
          return noise(setting, offset + seed, layer, head);
        });
    decided += run(result, "key/nmse").verdict != Verdict::no_significant_difference ? 1 : 0;
  }
  EXPECT_LE(decided, 15);  // 5% expected; more than 15 of 100 has probability 4e-5
}

TEST(Comparison, IdenticalResultsAreNoDifference) {
  const SweepResult result =
      sweep_of("key/nmse", 10, [](std::int64_t, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
        return noise(0, seed, layer, head);
      });
  const Comparison c = run(result, "key/nmse");
  EXPECT_EQ(c.verdict, Verdict::no_significant_difference);
  EXPECT_EQ(c.difference, 0.0);
  EXPECT_EQ(c.ratio.value(), 1.0);
  EXPECT_EQ(c.cell_win_rate, 0.0);
}

TEST(Comparison, HigherIsBetterForAgreement) {
  const SweepResult result =
      sweep_of("attention/top1", 10,
               [](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
                 return 1.0 - (setting == 0 ? 0.1 : 0.2) * noise(setting, seed, layer, head);
               });
  const Comparison c = run(result, "attention/top1");
  EXPECT_EQ(c.verdict, Verdict::candidate_better);
  EXPECT_NEAR(c.difference, 0.1, 0.01);  // of the metric itself
  EXPECT_NEAR(c.ratio.value(), 0.5, 0.01);
  EXPECT_NE(c.sentence.find("its 1 - attention/top1 is 0."), std::string::npos) << c.sentence;
}

TEST(Comparison, DistanceFromTheBestValue) {
  const SweepResult slopes = sweep_of(
      "ip/slope", 10, [](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
        return setting == 0 ? 1.0 + 0.01 * noise(0, seed, layer, head)
                            : 1.0 - 0.1 * noise(1, seed, layer, head);
      });
  const Comparison slope = run(slopes, "ip/slope");
  EXPECT_EQ(slope.verdict, Verdict::candidate_better);
  EXPECT_NEAR(slope.ratio.value(), 0.1, 0.005);
  EXPECT_NEAR(slope.candidate_mean, 1.01, 1e-3);

  const SweepResult biases = sweep_of(
      "ip/bias", 10, [](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
        return setting == 0 ? -0.5 * noise(0, seed, layer, head) : 0.1 * noise(1, seed, layer, head);
      });
  EXPECT_EQ(run(biases, "ip/bias").verdict, Verdict::baseline_better);  // -0.5 is further from 0
}

TEST(Comparison, IsotropicDataRankNoRotation) {
  SweepResult result = sweep_of(
      "key/nmse", 10, [](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
        return (setting == 0 ? 0.5 : 1.0) * noise(setting, seed, layer, head);
      });
  result.datasets[0].isotropic = true;
  const Comparison gated = run(result, "key/nmse", true);
  EXPECT_EQ(gated.verdict, Verdict::no_ranking);
  EXPECT_EQ(gated.gate, "isotropic");
  EXPECT_EQ(gated.sentence.find("no ranking: keys and values are isotropic"), 0U) << gated.sentence;
  EXPECT_NEAR(gated.ratio.value(), 0.5, 0.01);  // the numbers are there all the same
  // Another codec may be better on isotropic data too.
  EXPECT_EQ(run(result, "key/nmse", false).verdict, Verdict::candidate_better);
}

TEST(Comparison, OneSeedHasNoInterval) {
  const SweepResult result =
      sweep_of("key/nmse", 1, [](std::int64_t setting, std::uint64_t, std::int64_t, std::int64_t) {
        return setting == 0 ? 0.5 : 1.0;
      });
  const Comparison c = run(result, "key/nmse");
  EXPECT_EQ(c.verdict, Verdict::no_ranking);
  EXPECT_EQ(c.gate, "single seed");
  EXPECT_FALSE(c.difference_interval.has_value());
  EXPECT_FALSE(c.ratio_interval.has_value());
  EXPECT_EQ(
      c.sentence,
      "no ranking: one seed gives no interval; rotor's key/nmse is 0.5x of haar's, better in 4 of 4 heads");
}

TEST(Comparison, UnequalStoredBitsAreNotRanked) {
  const Value value = [](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
    return (setting == 0 ? 0.5 : 1.0) * noise(setting, seed, layer, head);
  };
  SweepResult keys = sweep_of("key/nmse", 10, value);
  keys.settings[0].key_size.bits_per_vector = 224;
  const Comparison c = run(keys, "key/nmse");
  EXPECT_EQ(c.verdict, Verdict::no_ranking);
  EXPECT_EQ(c.gate, "unequal bits");
  EXPECT_EQ(c.sentence.find("no ranking: rotor stores 3.5 bits a value, 0.25 more than haar's 3.25; rotor's "
                            "key/nmse is 0.499x"),
            0U)
      << c.sentence;

  // Bits of tensors that the metric does not see do not matter.
  SweepResult values = sweep_of("attention/kl", 10, value);
  values.settings[0].value_size.bits_per_vector = 224;
  EXPECT_EQ(run(values, "attention/kl").verdict, Verdict::candidate_better);
  SweepResult outputs = sweep_of("output/nmse", 10, value);
  outputs.settings[0].value_size.bits_per_vector = 224;
  const Comparison output = run(outputs, "output/nmse");
  EXPECT_EQ(output.gate, "unequal bits");
  EXPECT_DOUBLE_EQ(output.candidate_bits_per_value, (208.0 + 224.0) / 128.0);
}

TEST(Comparison, WithoutARatioTheDifferenceDecides) {
  const SweepResult result =
      sweep_of("attention/kl", 10,
               [](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
                 return setting == 0 ? 0.25 * noise(setting, seed, layer, head) : 0.0;
               });
  const Comparison c = run(result, "attention/kl");
  EXPECT_FALSE(c.ratio.has_value());
  EXPECT_FALSE(c.worst_ratio.has_value());
  EXPECT_EQ(c.verdict, Verdict::baseline_better);
  EXPECT_EQ(c.sentence.find("haar is better: its attention/kl is -0.2"), 0U) << c.sentence;
}

TEST(Comparison, ContradictingSummariesGiveNoWinner) {
  // Better by half in three small cells, worse by a quarter in the one that makes up the mean.
  const SweepResult result = sweep_of(
      "attention/kl", 10,
      [](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
        const bool large = layer == 3 && head == 0;
        const double candidate = large ? 1.25 : 0.5;
        return (large ? 1.0 : 0.01) * (setting == 0 ? candidate : 1.0) * noise(setting, seed, layer, head);
      });
  const Comparison c = run(result, "attention/kl");
  EXPECT_LT(c.ratio_interval->high, 1.0);
  EXPECT_GT(c.difference_interval->low, 0.0);
  EXPECT_EQ(c.verdict, Verdict::no_significant_difference);
  EXPECT_EQ(c.sentence.find("no clear winner"), 0U) << c.sentence;
}

TEST(Comparison, CellsWithoutTheMetricAreLeftOut) {
  const SweepResult some = sweep_of(
      "attention/kl", 3, [](std::int64_t setting, std::uint64_t seed, std::int64_t layer, std::int64_t head) {
        if (layer == 3 && head == 1 && setting == 1 && seed == 2) return missing;
        return (setting == 0 ? 0.5 : 1.0) * noise(setting, seed, layer, head);
      });
  EXPECT_EQ(run(some, "attention/kl").num_cells, 3);
  EXPECT_FALSE(compare(some, {0, 0, 1, "key/nmse", true}).has_value());
}

TEST(Comparison, UnknownMetricIsRefused) {
  const SweepResult result =
      sweep_of("key/nmse", 2, [](std::int64_t, std::uint64_t, std::int64_t, std::int64_t) { return 1.0; });
  EXPECT_THROW(compare(result, {0, 0, 1, "key/nmze", true}), UsageError);
}

TEST(Comparison, VerdictNames) {
  EXPECT_STREQ(verdict_name(Verdict::candidate_better), "candidate_better");
  EXPECT_STREQ(verdict_name(Verdict::baseline_better), "baseline_better");
  EXPECT_STREQ(verdict_name(Verdict::no_significant_difference), "no_significant_difference");
  EXPECT_STREQ(verdict_name(Verdict::no_ranking), "no_ranking");
}

}  // namespace
}  // namespace rotorquant::evaluation
