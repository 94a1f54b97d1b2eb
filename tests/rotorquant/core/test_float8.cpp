#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "rotorquant/core/float8.hpp"

namespace rotorquant {
namespace {

TEST(E4m3, DecodesTheValuesOfItsSpecification) {
  EXPECT_EQ(e4m3_to_float(0x00), 0.0F);
  EXPECT_EQ(e4m3_to_float(0x01), 0x1p-9F);  // least subnormal
  EXPECT_EQ(e4m3_to_float(0x07), 0.875F * 0x1p-6F);
  EXPECT_EQ(e4m3_to_float(0x08), 0x1p-6F);  // least normal
  EXPECT_EQ(e4m3_to_float(0x38), 1.0F);
  EXPECT_EQ(e4m3_to_float(0x7E), 448.0F);
  EXPECT_EQ(e4m3_to_float(0xFE), -448.0F);
  EXPECT_TRUE(std::isnan(e4m3_to_float(0x7F)));
}

TEST(E4m3, EveryCodeComesBack) {
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7F) == 0x7F) continue;
    const float value = e4m3_to_float(static_cast<std::uint8_t>(code));
    EXPECT_EQ(float_to_e4m3(value), code) << value;
  }
}

// Between two neighbours the nearer one is chosen, and the even one half-way.
TEST(E4m3, RoundsToNearestEven) {
  for (int code = 0; code < 0x7E; ++code) {
    const auto low = static_cast<std::uint8_t>(code);
    const auto high = static_cast<std::uint8_t>(code + 1);
    const float middle = (e4m3_to_float(low) + e4m3_to_float(high)) / 2.0F;
    const float infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(float_to_e4m3(std::nextafter(middle, -infinity)), low);
    EXPECT_EQ(float_to_e4m3(middle), code % 2 == 0 ? low : high);
    EXPECT_EQ(float_to_e4m3(std::nextafter(middle, infinity)), high);
    EXPECT_EQ(float_to_e4m3(-middle), 0x80 | (code % 2 == 0 ? low : high));
  }
}

TEST(E4m3, Saturates) {
  EXPECT_EQ(float_to_e4m3(1e9F), 0x7E);
  EXPECT_EQ(float_to_e4m3(-std::numeric_limits<float>::infinity()), 0xFE);
}

}  // namespace
}  // namespace rotorquant
