// KIVI's codes group by group, against the formula of the paper in float64.
#include <gtest/gtest.h>

#include <algorithm>

#include "rotorquant/core/half.hpp"
#include "rotorquant/quantizers/kivi_codec.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

float as_stored(double value) {
  return half_to_float(float_to_half(static_cast<float>(value)));
}

// What a group decodes to.
std::vector<double> expected_group(const std::vector<float>& group, int bits) {
  const auto [least, most] = std::minmax_element(group.begin(), group.end());
  const double top = (1 << bits) - 1;
  const double zero = static_cast<double>(as_stored(static_cast<double>(*least)));
  const double scale =
      static_cast<double>(as_stored(static_cast<double>((*most - *least) / static_cast<float>(top))));
  std::vector<double> decoded;
  for (const float x : group) {
    const double index =
        scale > 0.0 ? std::round(std::clamp((static_cast<double>(x) - zero) / scale, 0.0, top)) : 0.0;
    decoded.push_back(index * scale + zero);
  }
  return decoded;
}

constexpr double rounding = 2e-6;  // of values about 1: one float32 product and sum

TEST(KiviCodec, GroupsChannelsOfATokenForValues) {
  constexpr std::int64_t dim = 40, group = 16;  // the last group has 8 channels
  for (const int bits : {2, 4}) {
    const KiviCodec codec(KiviAxis::token, dim, group, bits);
    EXPECT_EQ(codec.layout().bits_of(FieldKind::index), bits * dim);
    EXPECT_EQ(codec.layout().bits_of(FieldKind::scale), 3 * 16);
    EXPECT_EQ(codec.layout().bits_of(FieldKind::zero), 3 * 16);
    const Matrix x = normal_matrix(5, dim, 1);
    const Matrix decoded = decode(codec, encode(codec, x));
    for (std::int64_t r = 0; r < x.rows; ++r) {
      for (std::int64_t begin = 0; begin < dim; begin += group) {
        const std::int64_t end = std::min(dim, begin + group);
        const std::vector<double> expected = expected_group({x.row(r) + begin, x.row(r) + end}, bits);
        for (std::int64_t c = begin; c < end; ++c)
          EXPECT_NEAR(decoded.row(r)[c], expected[static_cast<std::size_t>(c - begin)], rounding);
      }
    }
  }
}

TEST(KiviCodec, GroupsTokensOfAChannelForKeys) {
  constexpr std::int64_t dim = 6, group = 32, blocks = 3;
  const KiviCodec codec(KiviAxis::channel, dim, group, 2);
  EXPECT_EQ(codec.dim(), group * dim);
  EXPECT_EQ(codec.layout().bits_of(FieldKind::scale), dim * 16);
  const Matrix tokens = normal_matrix(blocks * group, dim, 2);
  Matrix x(blocks, group * dim);
  x.values = tokens.values;
  const Matrix decoded = decode(codec, encode(codec, x));
  for (std::int64_t b = 0; b < blocks; ++b) {
    for (std::int64_t c = 0; c < dim; ++c) {
      std::vector<float> channel;
      for (std::int64_t t = 0; t < group; ++t) channel.push_back(tokens.row(b * group + t)[c]);
      const std::vector<double> expected = expected_group(channel, 2);
      for (std::int64_t t = 0; t < group; ++t)
        EXPECT_NEAR(decoded.row(b)[t * dim + c], expected[static_cast<std::size_t>(t)], rounding);
    }
  }
}

// One channel far from the others costs its neighbours nothing when keys are grouped by channel.
TEST(KiviCodec, KeepsAnOutlierChannelToItself) {
  constexpr std::int64_t dim = 32, group = 32;
  Matrix tokens = normal_matrix(group, dim, 3);
  for (std::int64_t t = 0; t < group; ++t) tokens.row(t)[5] = 100.0F + tokens.row(t)[5];
  const auto error_of = [&](KiviAxis axis) {
    const KiviCodec codec(axis, dim, group, 2);
    Matrix x(tokens.values.size() / static_cast<std::size_t>(codec.dim()) == 1 ? 1 : group, codec.dim());
    x.values = tokens.values;
    return distance(x.values.data(), decode(codec, encode(codec, x)).values.data(), group * dim);
  };
  // Along a token the outlier stretches every step to 34, so that all other channels decode to the least of
  // them.
  EXPECT_LT(error_of(KiviAxis::channel), 0.3 * error_of(KiviAxis::token));
}

}  // namespace
}  // namespace rotorquant::test
