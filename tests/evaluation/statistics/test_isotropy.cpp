#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>
#include <thread>

#include "evaluation/statistics/isotropy.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation {
namespace {

struct Shape {
  std::int64_t tokens;
  std::int64_t dim;
};

// value(token, channel, standard normal) of every element.
std::vector<float> keys_of(const Shape& shape, std::uint64_t seed,
                           const std::function<double(std::int64_t, std::int64_t, double)>& value) {
  RandomStream random(seed, Purpose::synthetic);
  std::vector<float> keys;
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    for (std::int64_t c = 0; c < shape.dim; ++c)
      keys.push_back(static_cast<float>(value(t, c, random.normal())));
  }
  return keys;
}

IsotropyReport measure(const std::vector<float>& keys, const Shape& shape, std::uint64_t seed = 0) {
  return measure_isotropy({keys.data(), shape.tokens, shape.dim}, seed);
}

constexpr Shape usual{512, 64};

TEST(Isotropy, IsotropicKeysPass) {
  constexpr int seeds = 200;
  for (const Shape& shape :
       {Shape{32, 1}, Shape{64, 2}, Shape{64, 64}, Shape{512, 64}, Shape{300, 80}, Shape{1024, 5}}) {
    int passed = 0;
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      // Norms may differ as they like: only directions matter.
      const std::vector<float> keys = keys_of(shape, seed, [](std::int64_t t, std::int64_t, double z) {
        return z * (1.0 + static_cast<double>(t % 7));
      });
      passed += measure(keys, shape, seed % 2).isotropic ? 1 : 0;
    }
    EXPECT_GE(passed, seeds * 99 / 100) << shape.tokens << " tokens, d = " << shape.dim;
  }
}

// A hundred heads pass together: no head of a large isotropic dump may raise a false alarm.
TEST(Isotropy, PooledIsotropicHeadsPass) {
  std::vector<IsotropyReport> heads;
  for (std::uint64_t head = 0; head < 100; ++head) {
    heads.push_back(
        measure(keys_of(usual, 1000 + head, [](std::int64_t, std::int64_t, double z) { return z; }), usual));
  }
  const IsotropyReport pooled = pool_isotropy(heads);
  EXPECT_TRUE(pooled.isotropic);
  EXPECT_NEAR(pooled.eigenvalue_spread_ratio, 1.0, 0.02);
  EXPECT_NEAR(pooled.kurtosis_ratio, 1.0, 0.005);
  EXPECT_NEAR(pooled.mean_energy_share, 1.0 / 512.0, 2e-4);
}

TEST(Isotropy, AnisotropicKeysNeverPass) {
  using Value = std::function<double(std::int64_t, std::int64_t, double)>;
  const std::vector<std::pair<const char*, Value>> profiles = {
      {"one outlier channel", [](std::int64_t, std::int64_t c, double z) { return c == 17 ? 3.0 * z : z; }},
      {"decaying spectrum",
       [](std::int64_t, std::int64_t c, double z) { return z / (1.0 + 0.1 * static_cast<double>(c)); }},
      {"common mean", [](std::int64_t, std::int64_t c, double z) { return z + (c % 2 == 0 ? 0.4 : -0.4); }},
      {"heavy tails", [](std::int64_t, std::int64_t, double z) { return z * z * z; }},
      {"signs alone", [](std::int64_t, std::int64_t, double z) { return z > 0.0 ? 1.0 : -1.0; }},
      {"one-hot", [](std::int64_t t, std::int64_t c, double z) { return c == t % 64 ? z : 0.0; }},
  };
  for (const auto& [name, value] : profiles) {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      EXPECT_FALSE(measure(keys_of(usual, seed, value), usual).isotropic) << name << ", seed " << seed;
    }
  }
}

TEST(Isotropy, EachNumberSeesItsOwnDeviation) {
  const auto outlier = measure(
      keys_of(usual, 1, [](std::int64_t, std::int64_t c, double z) { return c == 0 ? 4.0 * z : z; }), usual);
  EXPECT_GT(outlier.eigenvalue_spread_ratio, 2.0);
  EXPECT_GT(outlier.eigenvalue_spread_z, 20.0);
  EXPECT_LT(std::abs(outlier.mean_energy_z), 6.0);
  const auto shifted =
      measure(keys_of(usual, 1, [](std::int64_t, std::int64_t, double z) { return z + 0.5; }), usual);
  EXPECT_GT(shifted.mean_energy_z, 20.0);
  EXPECT_NEAR(shifted.mean_energy_share, 0.25 / 1.25, 0.02);
  const auto one_hot = measure(
      keys_of(usual, 1, [](std::int64_t t, std::int64_t c, double z) { return c == t % 64 ? z : 0.0; }),
      usual);
  EXPECT_NEAR(one_hot.kurtosis_ratio, 64.0 / (3.0 * 64.0 / 66.0), 0.5);
  EXPECT_GT(one_hot.kurtosis_z, 20.0);
  EXPECT_LT(one_hot.eigenvalue_spread_z, isotropy_z_limit);  // its second moment is the identity's
  const auto signs = measure(
      keys_of(usual, 1, [](std::int64_t, std::int64_t, double z) { return z > 0.0 ? 1.0 : -1.0; }), usual);
  EXPECT_LT(signs.kurtosis_z, -20.0);
}

TEST(Isotropy, TooFewTokensAreNotCalledIsotropic) {
  for (const Shape& shape : {Shape{1, 64}, Shape{63, 64}, Shape{31, 8}}) {
    const IsotropyReport report =
        measure(keys_of(shape, 3, [](std::int64_t, std::int64_t, double z) { return z; }), shape);
    EXPECT_FALSE(report.enough_tokens);
    EXPECT_FALSE(report.isotropic);
    EXPECT_TRUE(std::isfinite(report.eigenvalue_spread_ratio));
    EXPECT_TRUE(std::isfinite(report.kurtosis_z));
  }
}

TEST(Isotropy, ZeroVectorsAreLeftOut) {
  std::vector<float> keys = keys_of(usual, 4, [](std::int64_t, std::int64_t, double z) { return z; });
  const IsotropyReport without = measure(keys, usual);
  keys.insert(keys.begin(), 100 * 64, 0.0F);
  const IsotropyReport with = measure(keys, {612, 64});
  EXPECT_EQ(with.eigenvalue_spread_z, without.eigenvalue_spread_z);
  EXPECT_EQ(with.kurtosis_z, without.kurtosis_z);
  EXPECT_TRUE(with.isotropic);

  const IsotropyReport nothing = measure(std::vector<float>(512 * 64, 0.0F), usual);
  EXPECT_FALSE(nothing.isotropic);
  EXPECT_TRUE(std::isnan(nothing.kurtosis_ratio));
}

TEST(Isotropy, LongSequencesAreSampledAcrossTheirLength) {
  constexpr Shape shape{3 * max_isotropy_tokens, 8};
  // Only the last third is anisotropic.
  const auto keys = keys_of(shape, 5, [](std::int64_t t, std::int64_t c, double z) {
    return t >= 2 * max_isotropy_tokens && c == 0 ? 10.0 * z : z;
  });
  EXPECT_FALSE(measure(keys, shape).isotropic);
}

TEST(Isotropy, ThreadsAgree) {
  const std::vector<float> keys =
      keys_of({200, 24}, 6, [](std::int64_t, std::int64_t, double z) { return z; });
  std::vector<IsotropyReport> reports(6);
  std::vector<std::thread> threads;
  for (IsotropyReport& report : reports) threads.emplace_back([&] { report = measure(keys, {200, 24}, 77); });
  for (std::thread& thread : threads) thread.join();
  for (const IsotropyReport& report : reports) {
    EXPECT_EQ(report.eigenvalue_spread_z, reports[0].eigenvalue_spread_z);
    EXPECT_EQ(report.kurtosis_z, reports[0].kurtosis_z);
    EXPECT_EQ(report.mean_energy_z, reports[0].mean_energy_z);
  }
}

TEST(Isotropy, PoolingKeepsTheWorstHead) {
  IsotropyReport good;
  good.isotropic = good.enough_tokens = true;
  good.eigenvalue_spread_ratio = good.kurtosis_ratio = 1.0;
  good.kurtosis_z = 1.0;
  IsotropyReport bad = good;
  bad.isotropic = false;
  bad.eigenvalue_spread_ratio = 3.0;
  bad.kurtosis_z = -40.0;
  EXPECT_TRUE(pool_isotropy({good, good}).isotropic);
  const IsotropyReport pooled = pool_isotropy({good, bad, good, good});
  EXPECT_FALSE(pooled.isotropic);
  EXPECT_TRUE(pooled.enough_tokens);
  EXPECT_DOUBLE_EQ(pooled.eigenvalue_spread_ratio, 1.5);
  EXPECT_EQ(pooled.kurtosis_z, -40.0);
  EXPECT_FALSE(pool_isotropy({}).isotropic);
}

}  // namespace
}  // namespace rotorquant::evaluation
