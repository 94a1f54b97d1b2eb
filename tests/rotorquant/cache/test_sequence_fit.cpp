// Quantizers that a few numbers measured on the sequence complete.
#include <gtest/gtest.h>

#include "rotorquant/cache/sequence_fit.hpp"
#include "rotorquant/core/float8.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

constexpr std::int64_t dim = 24;
constexpr std::int64_t outliers = 3;

// Normal rows with three channels of ten times the deviation.
Matrix rows_with_outliers(std::uint64_t seed) {
  Matrix x = normal_matrix(60, dim, seed);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (const std::int64_t c : {2, 11, 23}) x.row(t)[c] *= 10.0F;
  }
  return x;
}

double error_of_channels(const Matrix& x, const Matrix& decoded, bool of_outliers) {
  double sum = 0.0;
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t c = 0; c < dim; ++c) {
      if ((c == 2 || c == 11 || c == 23) != of_outliers) continue;
      sum += std::pow(static_cast<double>(x.row(t)[c] - decoded.row(t)[c]), 2);
    }
  }
  return sum;
}

TEST(OutlierChannels, AreThoseOfMostEnergyAndCodedApart) {
  const auto at_four = build("turboquant", 4, outliers);
  const auto at_three = build("turboquant", 3, dim - outliers);
  const OutlierChannels fit(at_four, at_three);
  EXPECT_EQ(fit.layout().dim, dim);
  EXPECT_EQ(fit.layout().bytes_per_vector(),
            at_four->layout().bytes_per_vector() + at_three->layout().bytes_per_vector());
  const Matrix x = rows_with_outliers(1);
  const SequenceQuantizer fitted = fit.fit(x.view());
  ASSERT_EQ(fitted.side.size(), 1U);
  EXPECT_EQ(fitted.side[0].bits, dim);  // one bit a channel
  const Matrix decoded = decode(*fitted.quantizer, encode(*fitted.quantizer, x));

  // Each part by its own quantizer.
  Matrix first(x.rows, outliers), second(x.rows, dim - outliers);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    std::int64_t i = 0, j = 0;
    for (std::int64_t c = 0; c < dim; ++c) {
      if (c == 2 || c == 11 || c == 23) {
        first.row(t)[i++] = x.row(t)[c];
      } else {
        second.row(t)[j++] = x.row(t)[c];
      }
    }
  }
  const Matrix first_decoded = decode(*at_four, encode(*at_four, first));
  const Matrix second_decoded = decode(*at_three, encode(*at_three, second));
  for (std::int64_t t = 0; t < x.rows; ++t) {
    EXPECT_EQ(decoded.row(t)[11], first_decoded.row(t)[1]);
    EXPECT_EQ(decoded.row(t)[12], second_decoded.row(t)[10]);
  }
  // Together they would share an error that the outliers set.
  const auto together = build("turboquant", 3, dim);
  const Matrix plain = decode(*together, encode(*together, x));
  EXPECT_LT(error_of_channels(x, decoded, false), 0.2 * error_of_channels(x, plain, false));
}

TEST(HeadScaledE4m3, MakesTheGreatestMagnitudeTheGreatestValue) {
  Matrix x = normal_matrix(50, dim, 2);
  for (float& value : x.values) value *= 1e-4F;  // mostly below the least subnormal, 2^-9
  x.row(7)[3] = -5e-3F;
  const HeadScaledE4m3 fit(dim);
  const SequenceQuantizer fitted = fit.fit(x.view());
  EXPECT_EQ(fitted.side[0].bits, 32);
  const Matrix decoded = decode(*fitted.quantizer, encode(*fitted.quantizer, x));
  EXPECT_FLOAT_EQ(decoded.row(7)[3], -5e-3F);
  // Half a unit in the last of four digits of a normal number, or half a subnormal's.
  const float least = 0x1p-10F * 5e-3F / e4m3_max;
  for (std::size_t i = 0; i < x.values.size(); ++i)
    EXPECT_NEAR(decoded.values[i], x.values[i], std::max(std::abs(x.values[i]) * 0x1p-4F, least) * 1.0001F);
  const auto unscaled = build("fp8-e4m3", 8, dim);
  EXPECT_EQ(decode(*unscaled, encode(*unscaled, x)).row(0)[0], 0.0F);

  Matrix later(1, dim);
  later.row(0)[0] = 1.0F;
  EXPECT_FLOAT_EQ(decode(*fitted.quantizer, encode(*fitted.quantizer, later)).row(0)[0], 5e-3F);  // saturates
  const Matrix zeros(3, dim);
  const SequenceQuantizer of_zeros = fit.fit(zeros.view());
  EXPECT_EQ(decode(*of_zeros.quantizer, encode(*of_zeros.quantizer, zeros)).values, zeros.values);
}

}  // namespace
}  // namespace rotorquant::test
