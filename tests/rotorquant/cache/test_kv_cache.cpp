#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "rotorquant/cache/kv_cache.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"
#include "rotorquant/quantizers/kivi_codec.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

constexpr std::int64_t key_dim = 64;
constexpr std::int64_t value_dim = 67;
constexpr std::int64_t tokens = 90;  // more than one block of vectors

struct Fixture {
  std::shared_ptr<const Quantizer> key_quantizer = build("rotorquant-prod", 3, key_dim, 5);
  std::shared_ptr<const Quantizer> value_quantizer = build("rotorquant", 3, value_dim, 5 + value_seed_offset);
  Matrix keys = normal_matrix(tokens, key_dim, 1);
  Matrix values = normal_matrix(tokens, value_dim, 2);
  Matrix queries = normal_matrix(4, key_dim, 3);
  KVCache cache{key_quantizer, value_quantizer};

  void append(std::int64_t begin, std::int64_t count, const Context& context = {}) {
    cache.append(context, std::as_const(keys).view().row_range(begin, count),
                 std::as_const(values).view().row_range(begin, count));
  }
  std::vector<float> scores(const Context& context = {}) const {
    Matrix out(queries.rows, cache.size());
    cache.attention_scores(context, queries.view(), out.view());
    return out.values;
  }
  std::vector<float> decoded_values() const {
    Matrix out(cache.size(), value_dim);
    cache.values({}, out.view());
    return out.values;
  }
};

TEST(KVCache, HoldsTheCodesOfItsQuantizers) {
  Fixture f;
  EXPECT_EQ(f.cache.size(), 0);
  EXPECT_EQ(f.cache.bytes(), 0);
  f.append(0, tokens);
  EXPECT_EQ(f.cache.size(), tokens);
  EXPECT_EQ(f.cache.bytes(), tokens * (f.key_quantizer->layout().bytes_per_vector() +
                                       f.value_quantizer->layout().bytes_per_vector()));
  const CodeBuffer key_codes = encode(*f.key_quantizer, f.keys);
  Matrix scores(f.queries.rows, tokens);
  f.key_quantizer->score({}, std::as_const(f.queries).view(), key_codes.view(), scores.view());
  EXPECT_EQ(f.scores(), scores.values);
  EXPECT_EQ(f.decoded_values(), decode(*f.value_quantizer, encode(*f.value_quantizer, f.values)).values);
}

TEST(KVCache, DoesNotDependOnHowTokensArrive) {
  Fixture at_once, one_by_one, mixed;
  at_once.append(0, tokens);
  for (std::int64_t t = 0; t < tokens; ++t) one_by_one.append(t, 1);
  mixed.append(0, 70, {2});
  mixed.append(70, 0);
  mixed.append(70, tokens - 70);
  for (const Fixture* other : {&one_by_one, &mixed}) {
    EXPECT_EQ(other->cache.size(), tokens);
    EXPECT_EQ(other->scores({2}), at_once.scores());
    EXPECT_EQ(other->decoded_values(), at_once.decoded_values());
  }
}

TEST(KVCache, AttendsBySoftmaxOfItsScoresOverItsValues) {
  Fixture f;
  f.append(0, tokens);
  const std::vector<float> scores = f.scores();
  const std::vector<float> values = f.decoded_values();
  for (const float scale : {0.0F, 0.125F, 20.0F}) {  // uniform, usual, nearly one token
    Matrix outputs(f.queries.rows, value_dim);
    f.cache.attend({2}, std::as_const(f.queries).view(), scale, outputs.view());
    for (std::int64_t q = 0; q < f.queries.rows; ++q) {
      const float* row = scores.data() + q * tokens;
      const double largest = *std::max_element(row, row + tokens);
      std::vector<double> expected(static_cast<std::size_t>(value_dim), 0.0);
      double total = 0.0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        const double weight = std::exp(static_cast<double>(scale) * (static_cast<double>(row[t]) - largest));
        total += weight;
        for (std::int64_t c = 0; c < value_dim; ++c) {
          expected[static_cast<std::size_t>(c)] +=
              weight * static_cast<double>(values[static_cast<std::size_t>(t * value_dim + c)]);
        }
      }
      constexpr double rounding = 5e-5;  // float32 weights of scores up to a few hundred
      for (std::int64_t c = 0; c < value_dim; ++c) {
        EXPECT_NEAR(outputs.row(q)[c], expected[static_cast<std::size_t>(c)] / total, rounding);
      }
    }
  }
}

TEST(KVCache, IsUnchangedByAFailedAppend) {
  Fixture f;
  f.append(0, 80);
  const std::vector<float> scores = f.scores();
  const std::vector<float> values = f.decoded_values();
  const std::int64_t bytes = f.cache.bytes();
  f.keys.row(85)[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(f.append(80, 10), Error);
  f.keys.row(85)[3] = 0.0F;
  f.values.row(86)[2] = std::numeric_limits<float>::infinity();  // keys are encoded by then
  EXPECT_THROW(f.append(80, 10), Error);
  EXPECT_EQ(f.cache.size(), 80);
  EXPECT_EQ(f.cache.bytes(), bytes);
  EXPECT_EQ(f.scores(), scores);
  EXPECT_EQ(f.decoded_values(), values);
}

TEST(KVCache, RefusesWrongShapes) {
  Fixture f;
  const Matrix wide = normal_matrix(2, key_dim + 1, 1);
  const Matrix keys = normal_matrix(2, key_dim, 1);
  const Matrix values = normal_matrix(3, value_dim, 1);
  EXPECT_THROW(f.cache.append({}, wide.view(), values.view().row_range(0, 2)), Error);
  EXPECT_THROW(f.cache.append({}, keys.view(), wide.view()), Error);
  EXPECT_THROW(f.cache.append({}, keys.view(), values.view()), Error);
  EXPECT_EQ(f.cache.size(), 0);
  Matrix outputs(2, value_dim);
  EXPECT_THROW(f.cache.attention_scores({}, wide.view(), outputs.view()), Error);
  EXPECT_THROW(f.cache.attend({}, keys.view(), 1.0F, outputs.view()), Error);  // empty
}

// Attention of the cache against attention over what its sequences decode.
void expect_attends_to_what_it_decodes(const KeySequence& keys, const KeySequence& values) {
  constexpr float scale = 0.125F;
  const Matrix key_rows = normal_matrix(tokens, keys.dim(), 11);
  const Matrix value_rows = normal_matrix(tokens, values.dim(), 12);
  const Matrix queries = normal_matrix(3, keys.dim(), 13);
  KVCache cache(keys, values);
  cache.append({}, key_rows.view().row_range(0, 70), value_rows.view().row_range(0, 70));
  cache.append({}, key_rows.view().row_range(70, 20), value_rows.view().row_range(70, 20));

  std::vector<std::int64_t> positions(tokens);
  std::iota(positions.begin(), positions.end(), 0);
  KeySequence alone = keys;
  alone.append({}, key_rows.view().row_range(0, 70), std::span(positions).subspan(0, 70));
  alone.append({}, key_rows.view().row_range(70, 20), std::span(positions).subspan(70));
  Matrix decoded_keys(tokens, keys.dim()), decoded_values(tokens, values.dim());
  alone.decode({}, decoded_keys.view());
  cache.values({}, decoded_values.view());

  Matrix scores(3, tokens), outputs(3, values.dim());
  cache.attention_scores({}, queries.view(), scores.view());
  cache.attend({}, queries.view(), scale, outputs.view());
  for (std::int64_t i = 0; i < 3; ++i) {
    std::vector<double> weights;
    double sum = 0.0;
    for (std::int64_t t = 0; t < tokens; ++t) {
      const double exact =
          inner_product(std::as_const(queries).row(i), std::as_const(decoded_keys).row(t), keys.dim());
      EXPECT_NEAR(scores.row(i)[t], exact, 2e-5 * (1.0 + std::abs(exact)));
      weights.push_back(std::exp(static_cast<double>(scale) * exact));
      sum += weights.back();
    }
    for (std::int64_t c = 0; c < values.dim(); ++c) {
      double expected = 0.0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        expected +=
            weights[static_cast<std::size_t>(t)] / sum * static_cast<double>(decoded_values.row(t)[c]);
      }
      EXPECT_NEAR(outputs.row(i)[c], expected, 1e-4);
    }
  }
}

TEST(KVCache, AttendsWithSinksAndCentres) {
  const auto keys = std::make_shared<CenteredKeys>(build("turboquant", 3, key_dim, 1), Centering::online);
  const auto values =
      std::make_shared<CenteredKeys>(build("rotorquant", 3, value_dim, 2), Centering::channel_mean);
  expect_attends_to_what_it_decodes(KeySequence(keys, 4), KeySequence(values, 4));
}

TEST(KVCache, AttendsWithCalibratedKeys) {
  const auto keys =
      std::make_shared<CalibratedKeys>(testing_support::random_parameters(key_dim, 3, BlockKind::general));
  auto rope = std::make_shared<Rope>();
  for (int j = 0; j < 32; ++j) rope->inv_freq.push_back(std::pow(10000.0, -j / 32.0));
  const auto values = std::make_shared<CenteredKeys>(build("turboquant", 3, value_dim, 2), Centering::none);
  expect_attends_to_what_it_decodes(KeySequence(keys, 4, rope), KeySequence(values, 4));
}

TEST(KVCache, AttendsWithAWindow) {
  const auto keys = std::make_shared<CenteredKeys>(build("turboquant", 3, key_dim, 1), Centering::online);
  const auto values = std::make_shared<CenteredKeys>(build("turboquant", 3, value_dim, 2), Centering::none);
  expect_attends_to_what_it_decodes(KeySequence(keys, SixteenBitTokens{4, 16}),
                                    KeySequence(values, SixteenBitTokens{0, 200}));
}

TEST(KVCache, AttendsWithBlocksOfTokens) {
  constexpr std::int64_t group = 8;
  const auto keys = std::make_shared<CenteredKeys>(
      std::make_shared<FixedFit>(std::make_shared<KiviCodec>(KiviAxis::channel, key_dim, group, 3), group),
      Centering::none);
  const auto values =
      std::make_shared<CenteredKeys>(build("kivi:group=16", 3, value_dim, 2), Centering::none);
  expect_attends_to_what_it_decodes(KeySequence(keys, SixteenBitTokens{3, 2 * group}),
                                    KeySequence(values, SixteenBitTokens{3, 16}));
}

}  // namespace
}  // namespace rotorquant::test
