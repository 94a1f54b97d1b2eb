#include <gtest/gtest.h>

#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/plane_nibbles.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

class PlaneNibbles : public ::testing::TestWithParam<int> {};

// Of every row: the index of coordinate 128 b + 16 k + lane in nibble k of lane `lane` of register b, zeros
// beyond the dimension.
TEST_P(PlaneNibbles, HoldEveryIndexInItsPlace) {
  if (!nibbles_supported(Isa::avx512)) GTEST_SKIP() << "this processor has no byte permutations";
  const int bits = GetParam();
  constexpr std::int64_t rows = 3;
  for (const std::int64_t dim : {1, 7, 8, 9, 16, 17, 64, 80, 127, 128, 129, 200, 256, 257}) {
    RandomStream stream(1, Purpose::synthetic, static_cast<std::uint32_t>(dim));
    const std::int64_t code_bytes = bits * plane_bytes(dim);
    std::vector<std::uint8_t> indices(static_cast<std::size_t>(rows * dim));
    std::vector<std::uint8_t> planes(static_cast<std::size_t>(rows * code_bytes));
    std::vector<std::uint8_t> expected(static_cast<std::size_t>(rows * nibble_bytes(dim)), 0);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < dim; ++c) {
        const auto index = static_cast<std::uint8_t>(stream.integer(std::int64_t{1} << bits));
        indices[static_cast<std::size_t>(r * dim + c)] = index;
        const std::int64_t nibble = c % 128 / 16;
        const std::int64_t byte = c / 128 * 64 + c % 16 * 4 + nibble / 2;
        expected[static_cast<std::size_t>(r * nibble_bytes(dim) + byte)] |=
            static_cast<std::uint8_t>(index << (nibble % 2 * 4));
      }
      pack_planes(indices.data() + r * dim, dim, bits, planes.data() + r * code_bytes);
    }
    const std::uint8_t* nibbles = nibbles_of_planes(bits, planes.data(), rows, dim);
    EXPECT_EQ(std::vector<std::uint8_t>(nibbles, nibbles + expected.size()), expected) << "dim " << dim;
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, PlaneNibbles, ::testing::Range(2, 5));

}  // namespace
}  // namespace rotorquant
