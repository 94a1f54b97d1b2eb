#include <gtest/gtest.h>

#include "rotorquant/codes/code_layout.hpp"
#include "rotorquant/codes/codes.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

// The example of the format: 3 bits at d = 128 are 48 bytes, and the norm 2.
TEST(CodeLayout, AddsUpItsFields) {
  CodeLayout layout{
      128, {plane_array("indices", FieldKind::index, 128, 3), number_array("norms", FieldKind::norm, 16)}};
  EXPECT_EQ(layout.bytes_per_vector(), 50);
  EXPECT_DOUBLE_EQ(layout.bits_per_value(), 3.125);
  EXPECT_EQ(layout.bits_of(FieldKind::index), 384);
  EXPECT_EQ(layout.bits_of(FieldKind::norm), 16);
  EXPECT_EQ(layout.bits_of(FieldKind::padding), 0);
  EXPECT_EQ(layout.bits_of(FieldKind::sign), 0);
}

TEST(CodeLayout, ChargesTheUnusedBitsOfEveryPlane) {
  const CodeLayout layout{67, {plane_array("indices", FieldKind::index, 67, 3)}};
  EXPECT_EQ(layout.bytes_per_vector(), 27);
  EXPECT_EQ(layout.bits_of(FieldKind::index), 201);
  EXPECT_EQ(layout.bits_of(FieldKind::padding), 15);
  EXPECT_DOUBLE_EQ(layout.bits_per_value(), 216.0 / 67.0);
}

TEST(CodeBuffer, GrowsAndCountsItsBytes) {
  const CodeLayout layout{
      8, {plane_array("indices", FieldKind::index, 8, 2), number_array("norms", FieldKind::norm, 16)}};
  CodeBuffer buffer(layout, 2);
  EXPECT_EQ(buffer.size(), 2);
  EXPECT_EQ(buffer.bytes(), 8);
  for (int i = 0; i < 4; ++i) buffer.view().arrays[0][i] = static_cast<std::uint8_t>(i);
  CodeBuffer more(layout);
  EXPECT_EQ(more.bytes(), 0);
  const Codes<Space::cpu> added = more.append(1);
  EXPECT_EQ(added.count, 1);
  added.arrays[0][0] = 40;
  added.arrays[0][1] = 41;
  buffer.append(more);
  ASSERT_EQ(buffer.size(), 3);
  EXPECT_EQ(buffer.bytes(), 12);
  const std::uint8_t expected[] = {0, 1, 2, 3, 40, 41};
  for (int i = 0; i < 6; ++i) EXPECT_EQ(buffer.view().arrays[0][i], expected[i]);
}

TEST(CodeBuffer, RefusesMoreArraysThanAViewHolds) {
  CodeLayout layout{8, {}};
  for (std::size_t i = 0; i <= max_code_arrays; ++i) {
    layout.arrays.push_back(number_array("a", FieldKind::norm, 16));
  }
  EXPECT_THROW(CodeBuffer{layout}, Error);
}

}  // namespace
}  // namespace rotorquant
