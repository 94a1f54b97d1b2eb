// Synthetic dumps: reproducible, and of the law that the header states.
#include <algorithm>
#include <cmath>

#include "dump_files.hpp"
#include "evaluation/dump/dump.hpp"
#include "evaluation/dump/synth.hpp"
#include "evaluation/dump/validator.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::TempPath;

SynthOptions options_of(SynthProfile profile) {
  SynthOptions options;
  options.profile = profile;
  options.layers = 2;
  options.kv_heads = 3;
  options.query_heads = 6;
  options.tokens = 200;
  options.head_dim = 64;
  options.seed = 11;
  return options;
}

class Profiles : public ::testing::TestWithParam<SynthProfile> {};
INSTANTIATE_TEST_SUITE_P(Synth, Profiles,
                         ::testing::Values(SynthProfile::isotropic, SynthProfile::outliers,
                                           SynthProfile::anisotropic, SynthProfile::one_hot),
                         [](const auto& instance) {
                           std::string name = synth_profile_names()[static_cast<std::size_t>(instance.param)];
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(Profiles, BytesDoNotDependOnThreads) {
  const TempPath one("synth_one.h5");
  const TempPath many("synth_many.h5");
  const SynthOptions options = options_of(GetParam());
  write_synthetic_dump(one.str(), options, Context{1});
  write_synthetic_dump(many.str(), options, Context{4});
  EXPECT_EQ(testing::file_bytes(one.str()), testing::file_bytes(many.str()));
  EXPECT_TRUE(validate_dump(one.str()).empty());

  const Dump dump = Dump::open(one.str());
  EXPECT_EQ(dump.info().num_query_heads, 6);
  EXPECT_EQ(dump.info().num_queries, 200);
  const SynthHead head = synthesize_head(options, 1, 2);
  EXPECT_EQ(dump.read_key(1, 2), head.keys);
  EXPECT_EQ(dump.read_value(1, 2), head.values);
  EXPECT_EQ(dump.read_query(1, 5), head.queries[1]);
}

TEST_P(Profiles, HeadsDifferAndTokensOnlyAppend) {
  SynthOptions options = options_of(GetParam());
  const SynthHead head = synthesize_head(options, 1, 1);
  EXPECT_NE(head.keys, synthesize_head(options, 1, 0).keys);
  EXPECT_NE(head.keys, synthesize_head(options, 0, 1).keys);
  EXPECT_NE(head.keys, head.values);
  EXPECT_NE(head.queries[0], head.queries[1]);
  options.tokens = 50;
  const SynthHead shorter = synthesize_head(options, 1, 1);
  EXPECT_TRUE(std::equal(shorter.keys.begin(), shorter.keys.end(), head.keys.begin()));
  EXPECT_TRUE(std::equal(shorter.queries[1].begin(), shorter.queries[1].end(), head.queries[1].begin()));
  options.seed = 12;
  EXPECT_NE(shorter.keys, synthesize_head(options, 1, 1).keys);
}

// Softmax weights of one causal row, float64.
std::vector<double> attention(const SynthHead& head, std::int64_t dim, std::int64_t t) {
  std::vector<double> weights;
  double total = 0.0;
  double greatest = -1e300;
  for (std::int64_t s = 0; s <= t; ++s) {
    double score = 0.0;
    for (std::int64_t c = 0; c < dim; ++c) {
      score += static_cast<double>(head.queries[0][static_cast<std::size_t>(t * dim + c)]) *
               static_cast<double>(head.keys[static_cast<std::size_t>(s * dim + c)]);
    }
    weights.push_back(score * std::sqrt(static_cast<double>(dim)));
    greatest = std::max(greatest, weights.back());
  }
  for (double& weight : weights) total += weight = std::exp(weight - greatest);
  for (double& weight : weights) weight /= total;
  return weights;
}

// Neither flat (entropy log of the number of keys) nor a copy (entropy 0), for every profile.
TEST_P(Profiles, AttentionIsNeitherFlatNorACopy) {
  const SynthOptions options = options_of(GetParam());
  const SynthHead head = synthesize_head(options, 0, 0);
  double relative_entropy = 0.0;
  double top = 0.0;
  for (std::int64_t t = 100; t < 200; ++t) {
    const std::vector<double> weights = attention(head, 64, t);
    double entropy = 0.0;
    for (const double weight : weights) entropy -= weight > 0.0 ? weight * std::log(weight) : 0.0;
    relative_entropy += entropy / std::log(static_cast<double>(weights.size())) / 100.0;
    top += *std::max_element(weights.begin(), weights.end()) / 100.0;
  }
  EXPECT_GT(relative_entropy, 0.3);
  EXPECT_LT(relative_entropy, 0.9);
  EXPECT_GT(top, 0.1);
  EXPECT_LT(top, 0.7);
}

double norm_of_row(const std::vector<float>& rows, std::int64_t dim, std::int64_t t) {
  double squares = 0.0;
  for (std::int64_t c = 0; c < dim; ++c) {
    const double x = static_cast<double>(rows[static_cast<std::size_t>(t * dim + c)]);
    squares += x * x;
  }
  return std::sqrt(squares);
}

TEST(Synth, IsotropicAndOneHotVectorsHaveUnitNorm) {
  constexpr double float_rounding = 1e-6;
  for (const SynthProfile profile : {SynthProfile::isotropic, SynthProfile::one_hot}) {
    const SynthHead head = synthesize_head(options_of(profile), 0, 0);
    for (std::int64_t t = 0; t < 200; ++t) {
      EXPECT_NEAR(norm_of_row(head.keys, 64, t), 1.0, float_rounding);
      EXPECT_NEAR(norm_of_row(head.values, 64, t), 1.0, float_rounding);
      EXPECT_NEAR(norm_of_row(head.queries[0], 64, t), 1.0, float_rounding);
    }
  }
  const SynthHead head = synthesize_head(options_of(SynthProfile::one_hot), 0, 0);
  EXPECT_EQ(std::count(head.keys.begin(), head.keys.end(), 0.0F), 200 * 63);
  EXPECT_GT(std::count(head.keys.begin(), head.keys.end(), -1.0F), 60);
  EXPECT_GT(std::count(head.keys.begin(), head.keys.end(), 1.0F), 60);
}

TEST(Synth, OutlierChannelsAreTwelveTimesAsLarge) {
  SynthOptions options = options_of(SynthProfile::outliers);
  options.tokens = 4000;
  const SynthHead head = synthesize_head(options, 0, 0);
  std::vector<double> deviations;  // of each channel
  for (std::size_t c = 0; c < 64; ++c) {
    double squares = 0.0;
    for (std::size_t t = 0; t < 4000; ++t) squares += std::pow(static_cast<double>(head.keys[t * 64 + c]), 2);
    deviations.push_back(std::sqrt(squares / 4000.0 * 64.0));
  }
  std::sort(deviations.begin(), deviations.end());
  // The standard error of a standard deviation of 4000 values is 1.1%; 5% is beyond four of them.
  for (std::size_t c = 0; c < 62; ++c) EXPECT_NEAR(deviations[c], 1.0, 0.05);
  for (std::size_t c = 62; c < 64; ++c) EXPECT_NEAR(deviations[c], 12.0, 0.6);
}

TEST(Synth, AnisotropicKeysHaveTheirEnergyInTheMean) {
  SynthOptions options = options_of(SynthProfile::anisotropic);
  options.tokens = 4000;
  const SynthHead head = synthesize_head(options, 0, 0);
  const auto mean_share = [](const std::vector<float>& rows) {
    std::vector<double> mean(64, 0.0);
    double energy = 0.0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      mean[i % 64] += static_cast<double>(rows[i]) / 4000.0;
      energy += static_cast<double>(rows[i]) * static_cast<double>(rows[i]) / 4000.0;
    }
    double share = 0.0;
    for (const double m : mean) share += m * m / energy;
    return share;
  };
  EXPECT_NEAR(mean_share(head.keys), 0.6, 0.02);
  EXPECT_LT(mean_share(head.values), 0.01);
}

TEST(Synth, RefusesImpossibleSizes) {
  const TempPath path("synth_refused.h5");
  SynthOptions options;
  options.query_heads = 3;
  EXPECT_THROW(write_synthetic_dump(path.str(), options, {}), UsageError);
  options = {};
  options.head_dim = 0;
  EXPECT_THROW(write_synthetic_dump(path.str(), options, {}), UsageError);
  options = {};
  options.tokens = 0;
  EXPECT_THROW(write_synthetic_dump(path.str(), options, {}), UsageError);
  EXPECT_FALSE(std::filesystem::exists(path.str()));
  EXPECT_THROW(parse_synth_profile("isotropc"), UsageError);
  EXPECT_EQ(parse_synth_profile("one-hot"), SynthProfile::one_hot);
}

TEST(Synth, SmallestSizes) {
  for (const SynthProfile profile :
       {SynthProfile::isotropic, SynthProfile::outliers, SynthProfile::anisotropic, SynthProfile::one_hot}) {
    const TempPath path("synth_small.h5");
    SynthOptions options;
    options.profile = profile;
    options.layers = options.kv_heads = options.tokens = options.head_dim = 1;
    options.query_heads = 0;
    write_synthetic_dump(path.str(), options, {});
    EXPECT_TRUE(validate_dump(path.str()).empty());
    EXPECT_EQ(Dump::open(path.str()).info().num_queries, 0);
  }
}

}  // namespace
}  // namespace rotorquant::evaluation
