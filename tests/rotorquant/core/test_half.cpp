#include <gtest/gtest.h>

#include <Eigen/Core>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "rotorquant/core/half.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

// Every exponent with many mantissas, all rounding ties among them, and the special values.
std::vector<float> many_floats() {
  std::vector<float> values = {half_max,
                               65519.996F,
                               65520.0F,
                               half_rounds_to_zero,
                               std::nextafter(half_rounds_to_zero, 1.0F),
                               std::numeric_limits<float>::infinity()};
  RandomStream stream(1, Purpose::synthetic);
  for (std::uint32_t exponent = 0; exponent < 255; ++exponent) {
    for (int i = 0; i < 2000; ++i) {
      auto mantissa = static_cast<std::uint32_t>(stream.integer(1 << 23));
      // A third each: any, a tie of the 10-bit mantissa, a tie of the 7-bit one.
      if (i % 3 == 1) mantissa = (mantissa & ~0x1FFFU) | 0x1000U;
      if (i % 3 == 2) mantissa = (mantissa & ~0xFFFFU) | 0x8000U;
      values.push_back(std::bit_cast<float>(exponent << 23 | mantissa));
    }
  }
  const std::size_t positive = values.size();
  for (std::size_t i = 0; i < positive; ++i) values.push_back(-values[i]);
  return values;
}

TEST(Half, EveryPatternReadsAsItsValueAndIsWrittenBack) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto pattern = static_cast<std::uint16_t>(bits);
    const float expected = static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(pattern));
    const float ours = half_to_float(pattern);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(ours)) << bits;
      ASSERT_TRUE(std::isnan(half_to_float(float_to_half(ours)))) << bits;
      continue;
    }
    ASSERT_EQ(std::bit_cast<std::uint32_t>(ours), std::bit_cast<std::uint32_t>(expected)) << bits;
    ASSERT_EQ(float_to_half(ours), pattern) << bits;
  }
}

TEST(Half, RoundsToNearestEven) {
  for (const float value : many_floats()) {
    ASSERT_EQ(float_to_half(value), Eigen::numext::bit_cast<std::uint16_t>(Eigen::half(value))) << value;
  }
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Half, NamedLimitsAreTheLimits) {
  EXPECT_EQ(half_to_float(float_to_half(half_max)), half_max);
  EXPECT_EQ(float_to_half(half_rounds_to_zero), 0);
  EXPECT_EQ(float_to_half(std::nextafter(half_rounds_to_zero, 1.0F)), 1);
}

TEST(Bfloat16, EveryPatternReadsAsItsValueAndIsWrittenBack) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto pattern = static_cast<std::uint16_t>(bits);
    const float value = bfloat16_to_float(pattern);
    ASSERT_EQ(std::bit_cast<std::uint32_t>(value), bits << 16);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(value)))) << bits;
    } else {
      ASSERT_EQ(float_to_bfloat16(value), pattern) << bits;
    }
  }
}

TEST(Bfloat16, RoundsToNearestEven) {
  for (const float value : many_floats()) {
    ASSERT_EQ(float_to_bfloat16(value), Eigen::numext::bit_cast<std::uint16_t>(Eigen::bfloat16(value)))
        << value;
  }
  // A signalling NaN whose payload lies in the dropped bits alone must not become infinity.
  EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(std::bit_cast<float>(0x7F800001U)))));
}

}  // namespace
}  // namespace rotorquant
