// Moments of a head's keys and queries, against sums taken by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "evaluation/calibration/measure_statistics.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation::calibration {
namespace {

constexpr std::int64_t dim = 6;
constexpr std::int64_t tokens = 40;
constexpr std::int64_t sinks = 3;

struct Fixture {
  std::vector<float> keys, queries;  // before RoPE
  std::vector<std::int64_t> positions, query_tokens;
  CalibrationModel model;

  Fixture() {
    RandomStream random(3, Purpose::synthetic);
    for (std::int64_t i = 0; i < tokens * dim; ++i)
      keys.push_back(static_cast<float>(random.normal() * static_cast<double>(1 + i % dim) + 2.0));
    for (std::int64_t i = 0; i < 10 * dim; ++i)
      queries.push_back(static_cast<float>(random.normal() * (i % 2 == 0 ? 3.0 : 1.0)));
    positions.resize(tokens);
    std::iota(positions.begin(), positions.end(), 100);
    query_tokens.resize(10);
    std::iota(query_tokens.begin(), query_tokens.end(), tokens - 10);
    model.head_dim = dim;
    model.rope.inv_freq = {0.7, 0.05, 0.001};
  }

  // As a dump holds them, after RoPE.
  KeyStatistics measure() const {
    std::vector<float> turned_keys = keys, turned_queries = queries;
    RopeTable(model.rope, positions).apply({turned_keys.data(), tokens, dim});
    std::vector<std::int64_t> at;
    for (const std::int64_t token : query_tokens) at.push_back(positions[static_cast<std::size_t>(token)]);
    RopeTable(model.rope, at).apply({turned_queries.data(), 10, dim});
    CalibrationInput input;
    CalibrationSequence sequence;
    sequence.keys = {turned_keys.data(), tokens, dim};
    sequence.queries = {{turned_queries.data(), 10, dim}};
    sequence.positions = positions;
    sequence.query_tokens = query_tokens;
    input.sequences = {sequence};
    return measure_statistics(input, model, sinks);
  }
};

constexpr double rounding = 1e-5;  // float32 turns there and back, relative

TEST(MeasureStatistics, TakesMomentsBeforeRopeWithoutSinks) {
  const Fixture f;
  const KeyStatistics s = f.measure();
  for (std::int64_t c = 0; c < dim; ++c) {
    double mean = 0.0, energy = 0.0, query_energy = 0.0;
    for (std::int64_t t = sinks; t < tokens; ++t) {
      const auto x = static_cast<double>(f.keys[static_cast<std::size_t>(t * dim + c)]);
      mean += x / static_cast<double>(tokens - sinks);
      energy += x * x / static_cast<double>(tokens - sinks);
    }
    for (std::int64_t q = 0; q < 10; ++q) {
      const auto x = static_cast<double>(f.queries[static_cast<std::size_t>(q * dim + c)]);
      query_energy += x * x / 10.0;
    }
    const auto at = static_cast<std::size_t>(c);
    EXPECT_NEAR(s.mean[at], mean, rounding * (1.0 + std::abs(mean)));
    EXPECT_NEAR(s.key_energy[at], energy, rounding * energy);
    EXPECT_NEAR(s.query_energy[at], query_energy, rounding * query_energy);
  }
}

// Components are orthonormal, their variances descend, and together they are the covariance.
TEST(MeasureStatistics, ComponentsDiagonaliseTheCovariance) {
  const Fixture f;
  const KeyStatistics s = f.measure();
  const auto component = [&](std::size_t i, std::size_t c) {
    return static_cast<double>(s.components[i * dim + c]);
  };
  for (std::size_t i = 0; i < dim; ++i) {
    EXPECT_LE(s.variances[i], s.variances[i > 0 ? i - 1 : 0]);
    for (std::size_t j = 0; j < dim; ++j) {
      double product = 0.0;
      for (std::size_t c = 0; c < dim; ++c) product += component(i, c) * component(j, c);
      EXPECT_NEAR(product, i == j ? 1.0 : 0.0, 1e-6);
      double covariance = 0.0, rebuilt = 0.0;
      for (std::int64_t t = sinks; t < tokens; ++t) {
        const auto at = static_cast<std::size_t>(t * dim);
        covariance += (static_cast<double>(f.keys[at + i]) - static_cast<double>(s.mean[i])) *
                      (static_cast<double>(f.keys[at + j]) - static_cast<double>(s.mean[j])) /
                      static_cast<double>(tokens - sinks);
      }
      for (std::size_t k = 0; k < dim; ++k)
        rebuilt += static_cast<double>(s.variances[k]) * component(k, i) * component(k, j);
      EXPECT_NEAR(rebuilt, covariance, 1e-4 * static_cast<double>(s.variances[0]));
    }
  }
}

}  // namespace
}  // namespace rotorquant::evaluation::calibration
