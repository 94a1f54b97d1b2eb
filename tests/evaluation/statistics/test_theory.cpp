#include <gtest/gtest.h>

#include <numbers>

#include "evaluation/statistics/theory.hpp"

namespace rotorquant::evaluation {
namespace {

// The published figures have four digits.
constexpr double tolerance = 0.006;

TEST(Theory, ExpectedDistortionOfUnitVectors) {
  const double d64[] = {.3584, .1146, .0334, .00917};
  const double d128[] = {.3609, .1160, .0340, .00932};
  for (int bits = 1; bits <= 4; ++bits) {
    EXPECT_NEAR(theory(CodebookLaw::gaussian, bits, 64).expected_mse / d64[bits - 1], 1.0, tolerance) << bits;
    EXPECT_NEAR(theory(CodebookLaw::gaussian, bits, 128).expected_mse / d128[bits - 1], 1.0, tolerance)
        << bits;
  }
}

TEST(Theory, BoundsHoldAndHaveTheirStatedSize) {
  EXPECT_NEAR(mse_bound(1), 0.6802, 1e-4);
  EXPECT_NEAR(mse_bound(3), 0.6802 / 16.0, 1e-5);
  for (int bits = 1; bits <= 8; ++bits) {
    for (const std::int64_t dim : {2, 8, 64, 128}) {
      for (const CodebookLaw law : {CodebookLaw::gaussian, CodebookLaw::sphere}) {
        const Theory t = theory(law, bits, dim);
        EXPECT_LT(t.expected_mse, t.mse_bound) << bits << " bits, d = " << dim;
        EXPECT_GT(t.expected_mse, 0.0);
      }
    }
  }
  const Theory one_bit = theory(CodebookLaw::gaussian, 1, 64);
  EXPECT_DOUBLE_EQ(one_bit.expected_prod_mse, 1.0);  // stage 1 has no bits: the sketch carries all
  EXPECT_DOUBLE_EQ(one_bit.prod_variance_bound, std::numbers::pi / 128.0);
  const Theory three_bits = theory(CodebookLaw::gaussian, 3, 64);
  EXPECT_DOUBLE_EQ(three_bits.expected_prod_mse, theory(CodebookLaw::gaussian, 2, 64).expected_mse);
}

TEST(Theory, DescribesItselfInOneLine) {
  EXPECT_EQ(describe(theory(CodebookLaw::gaussian, 3, 64)),
            "theory at 3 bits, d = 64, for isotropic unit vectors: every rotation has key/nmse 0.0334 (bound "
            "0.0425); -prod has "
            "inner-product variance at most 0.00281");
}

}  // namespace
}  // namespace rotorquant::evaluation
