#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <vector>

#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

using Words = std::array<std::uint32_t, 4>;

// Known answers of Random123 (kat_vectors, philox4x32 with 10 rounds).
TEST(Philox, EqualsKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Key = seed; counter = (block low, block high, index, purpose). Pins the mapping that every platform shares.
TEST(RandomStream, DrawsUniformsFromPhiloxBlocks) {
  RandomStream stream(0x0123456789ABCDEFU, Purpose::qjl, 7);
  for (std::uint32_t block = 0; block < 3; ++block) {
    const Words words = philox4x32({block, 0, 7, 2}, {0x89ABCDEFU, 0x01234567U});
    for (std::size_t half = 0; half < 2; ++half) {
      const std::uint64_t bits = ((std::uint64_t{words[2 * half]} << 32) | words[2 * half + 1]) >> 11;
      EXPECT_EQ(stream.uniform(), (static_cast<double>(bits) + 0.5) * 0x1p-53);
    }
  }
}

struct Moments {
  double mean = 0.0, variance = 0.0, fourth = 0.0;
};

Moments moments(const std::vector<double>& values) {
  Moments m;
  const auto n = static_cast<double>(values.size());
  for (const double v : values) m.mean += v / n;
  for (const double v : values) {
    const double square = (v - m.mean) * (v - m.mean);
    m.variance += square / n;
    m.fourth += square * square / n;
  }
  return m;
}

constexpr int draws = 400000;
// Five standard errors: a fixed seed either passes for ever or points at a wrong law.
constexpr double deviations = 5.0;

TEST(RandomStream, UniformHasTheMomentsOfItsLaw) {
  RandomStream stream(1, Purpose::synthetic);
  std::vector<double> values(draws);
  for (double& v : values) v = stream.uniform();
  for (const double v : values) ASSERT_TRUE(v > 0.0 && v < 1.0);
  const Moments m = moments(values);
  EXPECT_NEAR(m.mean, 0.5, deviations * std::sqrt(1.0 / 12.0 / draws));
  EXPECT_NEAR(m.variance, 1.0 / 12.0, deviations * std::sqrt((1.0 / 80.0 - 1.0 / 144.0) / draws));
}

TEST(RandomStream, NormalHasTheMomentsOfItsLaw) {
  RandomStream stream(1, Purpose::synthetic);
  std::vector<double> values(draws);
  for (double& v : values) v = stream.normal();
  const Moments m = moments(values);
  EXPECT_NEAR(m.mean, 0.0, deviations * std::sqrt(1.0 / draws));
  EXPECT_NEAR(m.variance, 1.0, deviations * std::sqrt(2.0 / draws));
  EXPECT_NEAR(m.fourth, 3.0, deviations * std::sqrt(96.0 / draws));
}

TEST(RandomStream, IntegerCoversItsRangeEvenly) {
  RandomStream stream(1, Purpose::bootstrap);
  constexpr std::int64_t bound = 7;
  std::array<int, bound> counts{};
  for (int i = 0; i < draws; ++i) {
    const std::int64_t value = stream.integer(bound);
    ASSERT_TRUE(value >= 0 && value < bound);
    ++counts[static_cast<std::size_t>(value)];
  }
  constexpr double share = 1.0 / bound;
  for (const int count : counts) {
    EXPECT_NEAR(count, draws * share, deviations * std::sqrt(draws * share * (1.0 - share)));
  }
}

TEST(RandomStream, SeedPurposeAndIndexEachGiveOtherNumbers) {
  std::set<double> seen;
  std::size_t drawn = 0;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32}) {
    for (const Purpose purpose :
         {Purpose::rotor, Purpose::dense_rotation, Purpose::qjl, Purpose::synthetic}) {
      for (const std::uint32_t index : {0U, 1U, 2U, 0xFFFFFFFFU}) {
        RandomStream stream(seed, purpose, index);
        for (int i = 0; i < 100; ++i, ++drawn) seen.insert(stream.uniform());
      }
    }
  }
  EXPECT_EQ(seen.size(), drawn);
}

TEST(RandomStream, NeighbouringStreamsAreUncorrelated) {
  RandomStream a(1, Purpose::rotor, 0);
  RandomStream b(1, Purpose::rotor, 1);
  double correlation = 0.0;
  constexpr int pairs = 100000;
  for (int i = 0; i < pairs; ++i) correlation += a.normal() * b.normal() / pairs;
  EXPECT_NEAR(correlation, 0.0, deviations / std::sqrt(static_cast<double>(pairs)));
}

TEST(RandomStream, RepeatsItself) {
  RandomStream a(5, Purpose::cascade, 3);
  RandomStream b(5, Purpose::cascade, 3);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(a.normal(), b.normal());
    EXPECT_EQ(a.uniform(), b.uniform());
  }
}

}  // namespace
}  // namespace rotorquant
