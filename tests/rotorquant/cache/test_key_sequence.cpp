#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "rotorquant/cache/key_sequence.hpp"
#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"
#include "rotorquant/quantizers/kivi_codec.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
#include "rotorquant/rotations/dense.hpp"

namespace rotorquant {
namespace {

using testing_support::random_keys;
using testing_support::random_parameters;

constexpr Context one_thread{1};
constexpr std::int64_t dim = 64;
constexpr std::int64_t tokens = 200;

std::shared_ptr<const Quantizer> dense_codec(int bits) {
  return std::make_shared<ScalarCodec>(std::make_shared<DenseRotation>(DenseRotation::haar(dim, 1)),
                                       lloyd_max_codebook(CodebookLaw::gaussian, bits, dim));
}

std::shared_ptr<const Rope> some_rope() {
  Rope rope;
  for (int j = 0; j < 32; ++j) rope.inv_freq.push_back(std::pow(10000.0, -j / 32.0));
  return std::make_shared<const Rope>(rope);
}

std::vector<std::int64_t> some_positions(std::int64_t count) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(count));
  std::iota(positions.begin(), positions.end(), 40);
  return positions;
}

std::vector<float> decode(const KeySequence& sequence) {
  std::vector<float> keys(static_cast<std::size_t>(sequence.size() * sequence.dim()));
  sequence.decode(one_thread, {keys.data(), sequence.size(), sequence.dim()});
  return keys;
}

double squared_error(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i] - b[i]), 2);
  return sum;
}

struct Fixture {
  std::shared_ptr<const CalibratedParameters> parameters = random_parameters(dim, 3, BlockKind::general);
  std::vector<std::int64_t> positions = some_positions(tokens);
  std::vector<float> keys = random_keys(*parameters, tokens, 1.0);  // after RoPE

  Fixture() { RopeTable(*some_rope(), positions).apply({keys.data(), tokens, dim}); }
  HostView<const float> view() const { return {keys.data(), tokens, dim}; }
};

TEST(KeySequence, KeepsSinksInSixteenBitsAndChargesEverything) {
  const Fixture f;
  KeySequence sequence(std::make_shared<CalibratedKeys>(f.parameters), 4, some_rope());
  sequence.append(one_thread, f.view(), f.positions);
  ASSERT_EQ(sequence.size(), tokens);
  const std::vector<float> decoded = decode(sequence);
  for (std::size_t i = 0; i < 4 * dim; ++i) EXPECT_EQ(decoded[i], half_to_float(float_to_half(f.keys[i])));
  EXPECT_EQ(sequence.sink_bits(), 4 * dim * 16);
  EXPECT_EQ(sequence.code_bits(), (tokens - 4) * (3 * dim + 16));
  EXPECT_EQ(sequence.side_bits(), dim * (16 + 8));
}

// What the calibrated method stores is keys before RoPE: it equals its codec applied by hand.
TEST(KeySequence, CodesKeysBeforeRope) {
  const Fixture f;
  KeySequence sequence(std::make_shared<CalibratedKeys>(f.parameters), 4, some_rope());
  sequence.append(one_thread, f.view(), f.positions);

  const RopeTable table(*some_rope(), f.positions);
  std::vector<float> unturned = f.keys;
  table.remove({unturned.data(), tokens, dim});
  const CalibratedCodec codec(f.parameters,
                              observe_sequence(*f.parameters, {unturned.data() + 4 * dim, tokens - 4, dim}));
  CodeBuffer codes(codec.layout(), tokens - 4);
  codec.encode(one_thread, {unturned.data() + 4 * dim, tokens - 4, dim}, codes.view());
  ASSERT_EQ(codes.bytes(), sequence.codes()->bytes());
  const std::uint8_t* expected = codes.view().arrays[0];
  EXPECT_TRUE(std::equal(expected, expected + codes.bytes(), sequence.codes()->view().arrays[0]));

  std::vector<float> expected_keys((tokens - 4) * dim);
  const HostView<float> turned{expected_keys.data(), tokens - 4, dim};
  codec.decode(one_thread, std::as_const(codes).view(), turned);
  table.apply(turned, 4);
  const std::vector<float> decoded = decode(sequence);
  for (std::size_t i = 0; i < expected_keys.size(); ++i) ASSERT_EQ(decoded[4 * dim + i], expected_keys[i]);
}

TEST(KeySequence, ModelsWithoutRopeWorkAsTheyAre) {
  const Fixture f;
  const std::vector<float> keys = random_keys(*f.parameters, tokens, 1.0);
  KeySequence plain(std::make_shared<CalibratedKeys>(f.parameters), 0, std::make_shared<const Rope>());
  plain.append(one_thread, {keys.data(), tokens, dim}, f.positions);
  double energy = 0.0;
  for (const float value : keys) energy += static_cast<double>(value) * static_cast<double>(value);
  EXPECT_LT(squared_error(decode(plain), keys), 0.05 * energy);
}

TEST(KeySequence, LaterAppendsUseTheSideDataOfTheFirst) {
  const Fixture f;
  for (const std::int64_t sinks : {std::int64_t{0}, std::int64_t{4}}) {
    for (const bool calibrated : {true, false}) {
      std::shared_ptr<const KeyMethod> method;
      if (calibrated) {
        method = std::make_shared<CalibratedKeys>(f.parameters);
      } else {
        method = std::make_shared<CenteredKeys>(dense_codec(3), Centering::online);
      }
      KeySequence whole(method, sinks, some_rope());
      whole.append(one_thread, f.view(), f.positions);
      // The first part holds every token that the side data is measured on.
      KeySequence parts(method, sinks, some_rope());
      const std::span<const std::int64_t> positions(f.positions);
      parts.append(one_thread, f.view().row_range(0, 130), positions.subspan(0, 130));
      parts.append(one_thread, f.view().row_range(130, 1), positions.subspan(130, 1));
      parts.append(one_thread, f.view().row_range(131, tokens - 131), positions.subspan(131));
      EXPECT_EQ(decode(whole), decode(parts));
      EXPECT_EQ(whole.code_bits(), parts.code_bits());
    }
  }
}

TEST(KeySequence, ScoresAreProductsWithDecodedKeys) {
  const Fixture f;
  KeySequence sequence(std::make_shared<CalibratedKeys>(f.parameters), 4, some_rope());
  // More tokens than one block of the scoring loop.
  for (int part = 0; part < 3; ++part) sequence.append(one_thread, f.view(), f.positions);
  const std::vector<float> decoded = decode(sequence);
  const std::vector<float> queries = random_keys(*f.parameters, 3, 0.0, 9);
  std::vector<float> scores(static_cast<std::size_t>(3 * sequence.size()));
  sequence.score({2}, {queries.data(), 3, dim}, {scores.data(), 3, sequence.size()});
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t t = 0; t < static_cast<std::size_t>(sequence.size()); ++t) {
      double product = 0.0;
      for (std::size_t c = 0; c < dim; ++c) {
        product += static_cast<double>(queries[i * dim + c]) * static_cast<double>(decoded[t * dim + c]);
      }
      ASSERT_NEAR(scores[i * static_cast<std::size_t>(sequence.size()) + t], product,
                  1e-5 * (1.0 + std::abs(product)));
    }
  }
}

TEST(KeySequence, CenteringRemovesACommonOffset) {
  RandomStream random(5, Purpose::synthetic);
  std::vector<float> keys(tokens * dim);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keys[i] = static_cast<float>(random.normal() + (i % dim < 4 ? 30.0 : 0.0));
  }
  const std::vector<std::int64_t> positions = some_positions(tokens);
  const auto error_with = [&](Centering centering, std::int64_t expected_side_bits) {
    KeySequence sequence(std::make_shared<CenteredKeys>(dense_codec(3), centering), 4);
    sequence.append(one_thread, {keys.data(), tokens, dim}, positions);
    EXPECT_EQ(sequence.side_bits(), expected_side_bits);
    return squared_error(decode(sequence), keys);
  };
  const double plain = error_with(Centering::none, 0);
  const double online = error_with(Centering::online, 16 * dim);
  const double exact = error_with(Centering::channel_mean, 16 * dim);
  EXPECT_LT(online, 0.05 * plain);  // 4 * 900 / 64 = 56 times the variance of the rest
  EXPECT_LT(exact, 1.02 * online);
}

TEST(KeySequence, ShortSequencesNeedNoSpecialCare) {
  const Fixture f;
  for (const std::int64_t count : {1, 3, 4, 5, 9}) {
    for (const std::int64_t sinks : {0, 4}) {
      KeySequence sequence(std::make_shared<CalibratedKeys>(f.parameters), sinks, some_rope());
      sequence.append(one_thread, f.view().row_range(0, 0), {});
      EXPECT_EQ(sequence.size(), 0);
      sequence.append(one_thread, f.view().row_range(0, count),
                      std::span(f.positions).first(static_cast<std::size_t>(count)));
      EXPECT_EQ(sequence.size(), count);
      for (const float value : decode(sequence)) EXPECT_TRUE(std::isfinite(value));
      EXPECT_EQ(sequence.sink_bits(), std::min(count, sinks) * dim * 16);
    }
  }
}

TEST(KeySequence, RefusesInOneLineAndStaysAsItWas) {
  const Fixture f;
  const auto method = std::make_shared<CalibratedKeys>(f.parameters);
  EXPECT_THROW(KeySequence(method, 4, nullptr), Error);  // rope unknown
  EXPECT_THROW(KeySequence(method, -1, some_rope()), UsageError);
  Rope wide;
  wide.inv_freq.assign(33, 0.1);
  EXPECT_THROW(KeySequence(method, 4, std::make_shared<const Rope>(wide)), Error);

  KeySequence sequence(method, 4, some_rope());
  sequence.append(one_thread, f.view(), f.positions);
  const std::vector<float> before = decode(sequence);
  EXPECT_THROW(sequence.append(one_thread, f.view(), std::span(f.positions).first(3)), Error);
  std::vector<float> bad = f.keys;
  bad[150 * dim + 7] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(sequence.append(one_thread, {bad.data(), tokens, dim}, f.positions), Error);
  EXPECT_EQ(decode(sequence), before);

  KeySequence fresh(method, 4, some_rope());
  bad = f.keys;
  bad[2 * dim] = 1e5F;  // a sink beyond fp16
  EXPECT_THROW(fresh.append(one_thread, {bad.data(), tokens, dim}, f.positions), Error);
  EXPECT_EQ(fresh.size(), 0);
}

// How a method's tokens are coded and kept when they come in these parts.
KeySequence in_parts(const std::shared_ptr<const KeyMethod>& method, SixteenBitTokens sixteen_bits,
                     const Fixture& f, const std::vector<std::int64_t>& parts) {
  KeySequence sequence(method, sixteen_bits, some_rope());
  std::int64_t first = 0;
  for (const std::int64_t count : parts) {
    sequence.append(
        one_thread, f.view().row_range(first, count),
        std::span(f.positions).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
    first += count;
  }
  return sequence;
}

std::shared_ptr<const KeyMethod> blocks_of(std::int64_t group) {
  const auto codec = std::make_shared<KiviCodec>(KiviAxis::channel, dim, group, 3);
  return std::make_shared<CenteredKeys>(std::make_shared<FixedFit>(codec, group), Centering::none);
}

TEST(KeySequence, KeepsTheMostRecentTokensInSixteenBits) {
  const Fixture f;
  for (const bool calibrated : {false, true}) {
    std::shared_ptr<const KeyMethod> method = std::make_shared<CalibratedKeys>(f.parameters);
    if (!calibrated) method = std::make_shared<CenteredKeys>(dense_codec(3), Centering::online);
    const KeySequence sequence = in_parts(method, {4, 30}, f, {tokens});
    EXPECT_EQ(sequence.window_bits(), 30 * dim * 16);
    EXPECT_EQ(sequence.code_bits(), (tokens - 34) * (3 * dim + 16));
    EXPECT_EQ(sequence.coded_end(tokens), tokens - 30);
    EXPECT_EQ(sequence.coded_end(20), 4);
    EXPECT_EQ(sequence.coded_end(3), 3);
    const std::vector<float> decoded = decode(sequence);
    std::int64_t exact = 0;
    for (std::int64_t t = 0; t < tokens; ++t) {
      bool same = true;
      for (std::int64_t c = 0; c < dim; ++c) {
        const auto i = static_cast<std::size_t>(t * dim + c);
        same = same && decoded[i] == half_to_float(float_to_half(f.keys[i]));
      }
      EXPECT_EQ(same, t < 4 || t >= tokens - 30) << t;
      exact += same ? 1 : 0;
    }
    EXPECT_EQ(exact, 34);
    // Codes do not depend on how tokens arrive; the first part decides the side data.
    EXPECT_EQ(decode(in_parts(method, {4, 30}, f, {130, 1, 1, 28, 40})), decoded);
  }
}

TEST(KeySequence, CodesBlocksOfTokensTogether) {
  const Fixture f;
  constexpr std::int64_t group = 16, window = 48;
  const KeySequence sequence = in_parts(blocks_of(group), {5, window}, f, {tokens});
  // 195 tokens are no sinks: four blocks of 48 are coded and 3 wait.
  EXPECT_EQ(sequence.coded_end(tokens), 5 + 4 * window);
  EXPECT_EQ(sequence.coded_end(5 + window - 1), 5);
  EXPECT_EQ(sequence.coded_end(5 + window), 5 + window);
  EXPECT_EQ(sequence.window_bits(), 3 * dim * 16);
  EXPECT_EQ(sequence.codes()->size(), 4 * window / group);
  const std::vector<float> decoded = decode(sequence);
  EXPECT_EQ(decode(in_parts(blocks_of(group), {5, window}, f, {3, 4, 60, 1, 100, 32})), decoded);
  // The codec by hand, on keys that passed through 16 bits.
  std::vector<float> rounded;
  for (const float key : f.keys) rounded.push_back(half_to_float(float_to_half(key)));
  const KiviCodec codec(KiviAxis::channel, dim, group, 3);
  CodeBuffer codes(codec.layout(), 4 * window / group);
  codec.encode(one_thread, {rounded.data() + 5 * dim, codes.size(), group * dim}, codes.view());
  std::vector<float> expected(static_cast<std::size_t>(4 * window * dim));
  codec.decode(one_thread, std::as_const(codes).view(), {expected.data(), codes.size(), group * dim});
  for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(decoded[5 * dim + i], expected[i]);
}

TEST(KeySequence, RefusesAWindowThatDoesNotFitTheCodes) {
  EXPECT_THROW(KeySequence(blocks_of(16), SixteenBitTokens{0, 0}), UsageError);
  EXPECT_THROW(KeySequence(blocks_of(16), SixteenBitTokens{0, 24}), UsageError);
  EXPECT_THROW(KeySequence(blocks_of(16), SixteenBitTokens{0, -16}), UsageError);
  EXPECT_NO_THROW(KeySequence(blocks_of(16), SixteenBitTokens{0, 32}));
}

TEST(KeySequence, AWindowTakesNoValueBeyondSixteenBits) {
  const Fixture f;
  std::vector<float> bad = f.keys;
  bad[(tokens - 2) * dim + 1] = 1e6F;
  KeySequence sequence(std::make_shared<CenteredKeys>(dense_codec(3), Centering::none),
                       SixteenBitTokens{0, 8});
  try {
    sequence.append(one_thread, {bad.data(), tokens, dim}, f.positions);
    ADD_FAILURE() << "1e6 was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("token 198, coordinate 1"), std::string::npos) << error.what();
  }
  EXPECT_EQ(sequence.size(), 0);
}

}  // namespace
}  // namespace rotorquant
