#include <gtest/gtest.h>

#include "evaluation/metrics/metric_registry.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

TEST(MetricRegistry, TagsStandAtTheirPositions) {
  const std::vector<std::pair<Metric, std::string>> expected = {
      {Metric::key_mse, "key/mse"},
      {Metric::key_nmse, "key/nmse"},
      {Metric::key_cosine, "key/cosine"},
      {Metric::value_mse, "value/mse"},
      {Metric::value_nmse, "value/nmse"},
      {Metric::value_cosine, "value/cosine"},
      {Metric::ip_bias, "ip/bias"},
      {Metric::ip_slope, "ip/slope"},
      {Metric::ip_rmse, "ip/rmse"},
      {Metric::ip_correlation, "ip/correlation"},
      {Metric::score_rmse, "score/rmse"},
      {Metric::attention_kl, "attention/kl"},
      {Metric::attention_top1, "attention/top1"},
      {Metric::attention_top8, "attention/top8"},
      {Metric::output_nmse, "output/nmse"},
      {Metric::output_nmse_keys_only, "output/nmse_keys_only"},
      {Metric::output_nmse_values_only, "output/nmse_values_only"},
      {Metric::attention_kl_eighth1, "attention/kl_eighth1"},
  };
  const std::size_t further_eighths = num_position_bins - 1;
  ASSERT_EQ(metric_registry().size(), expected.size() + further_eighths);
  ASSERT_EQ(static_cast<std::size_t>(Metric::count), metric_registry().size());
  EXPECT_EQ(metric_registry().back().tag, "attention/kl_eighth8");
  for (const auto& [metric, tag] : expected)
    EXPECT_EQ(metric_index(tag), static_cast<std::size_t>(metric)) << tag;
}

TEST(MetricRegistry, UnknownTagNamesTheNearest) {
  try {
    metric_index("attention/k1");
    FAIL() << "accepted";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'attention/kl'"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace rotorquant::evaluation
