// Widths of channel pairs, and TurboQuant in each width.
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <set>

#include "rotorquant/cache/block_gtq.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

constexpr std::int64_t dim = 16;

Rope rope_of(std::int64_t pairs, RopeLayout layout) {
  Rope rope;
  rope.inv_freq.assign(static_cast<std::size_t>(pairs), 0.1);
  rope.layout = layout;
  return rope;
}

// Pair j of RoPE's half layout has 4^-j of the energy, shared unevenly by its channels and by keys and
// queries.
KeyStatistics statistics() {
  KeyStatistics s;
  s.mean.assign(dim, 0.0F);
  s.components.assign(dim * dim, 0.0F);
  s.variances.assign(dim, 1.0F);
  for (std::int64_t c = 0; c < dim; ++c) {
    const float energy = std::ldexp(1.0F, static_cast<int>(-2 * (c % 8)));
    s.key_energy.push_back(c < 8 ? energy : 0.0F);
    s.query_energy.push_back(c < 8 ? 0.0F : energy);
  }
  return s;
}

// Least sum of s_i 4^-w_i over all widths 1..8 of this many bits.
double best_objective(const std::vector<double>& scores, std::int64_t bits, std::size_t i = 0) {
  if (i == scores.size()) return bits == 0 ? 0.0 : 1e300;
  double best = 1e300;
  for (std::int64_t w = 1; w <= std::min<std::int64_t>(8, bits); ++w)
    best = std::min(
        best, scores[i] * std::pow(4.0, static_cast<double>(-w)) + best_objective(scores, bits - w, i + 1));
  return best;
}

TEST(BlockGtqWidths, AreTheBestOfAll) {
  const KeyStatistics s = statistics();
  std::vector<double> scores;
  for (int j = 0; j < 8; ++j) scores.push_back(std::pow(4.0, -j));
  for (const int bits : {1, 2, 3}) {
    const std::vector<std::uint8_t> widths = block_gtq_widths(s, rope_of(8, RopeLayout::half), bits);
    double objective = 0.0;
    for (std::size_t j = 0; j < 8; ++j) {
      EXPECT_EQ(widths[j], widths[j + 8]);  // the channels of a pair
      objective += scores[j] * std::pow(4.0, -static_cast<double>(widths[j]));
    }
    EXPECT_EQ(std::accumulate(widths.begin(), widths.end(), 0), bits * dim);
    EXPECT_NEAR(objective, best_objective(scores, 8 * bits), 1e-12) << bits;
  }
}

TEST(BlockGtqWidths, FollowTheLayoutOfRope) {
  KeyStatistics s = statistics();
  s.query_energy.assign(dim, 0.0F);
  s.key_energy.assign(dim, 1e-3F);
  s.key_energy[4] = 100.0F;
  const std::vector<std::uint8_t> half = block_gtq_widths(s, rope_of(8, RopeLayout::half), 2);
  EXPECT_GT(half[4], half[5]);
  EXPECT_EQ(half[4], half[12]);
  const std::vector<std::uint8_t> interleaved = block_gtq_widths(s, rope_of(8, RopeLayout::interleaved), 2);
  EXPECT_EQ(interleaved[4], interleaved[5]);
  EXPECT_GT(interleaved[4], interleaved[12]);
  // Channels that RoPE leaves alone pair up behind the others.
  const std::vector<std::uint8_t> partial = block_gtq_widths(s, rope_of(2, RopeLayout::half), 2);
  EXPECT_EQ(partial[4], partial[5]);
  EXPECT_GT(partial[4], partial[6]);
}

TEST(BlockGtq, ChargesAScaleForEveryWidthAndKeepsStrongChannelsBetter) {
  const KeyStatistics s = statistics();
  const Rope rope = rope_of(8, RopeLayout::half);
  const auto quantizer = block_gtq_quantizer(s, rope, 3, 1);
  const std::vector<std::uint8_t> widths = block_gtq_widths(s, rope, 3);
  const std::set<std::uint8_t> used(widths.begin(), widths.end());
  ASSERT_GT(used.size(), 2U);
  EXPECT_EQ(quantizer->layout().bits_of(FieldKind::index), 3 * dim);
  EXPECT_EQ(quantizer->layout().bits_of(FieldKind::scale), 16 * static_cast<std::int64_t>(used.size()));
  EXPECT_EQ(quantizer->layout().bits_of(FieldKind::padding), 0);

  const Matrix x = normal_matrix(500, dim, 2);
  const Matrix decoded = decode(*quantizer, encode(*quantizer, x));
  const auto error_of = [&](std::int64_t c) {
    double sum = 0.0;
    for (std::int64_t t = 0; t < x.rows; ++t)
      sum += std::pow(static_cast<double>(x.row(t)[c] - decoded.row(t)[c]), 2);
    return sum / static_cast<double>(x.rows);
  };
  EXPECT_LT(error_of(0), 0.1 * error_of(7));
  EXPECT_NE(bytes_of(*quantizer, encode(*quantizer, x)),
            bytes_of(*block_gtq_quantizer(s, rope, 3, 2), encode(*block_gtq_quantizer(s, rope, 3, 2), x)));
}

}  // namespace
}  // namespace rotorquant::test
