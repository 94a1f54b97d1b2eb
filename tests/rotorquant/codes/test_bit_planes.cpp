#include <gtest/gtest.h>

#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

std::vector<std::uint8_t> random_indices(std::int64_t dim, int bits) {
  RandomStream stream(1, Purpose::synthetic, static_cast<std::uint32_t>(dim));
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(dim));
  for (auto& index : indices) index = static_cast<std::uint8_t>(stream.integer(std::int64_t{1} << bits));
  return indices;
}

class BitPlanes : public ::testing::TestWithParam<int> {};

// Bit j of coordinate c is bit c mod 8 of byte c / 8 of plane j; all other bits are zero; nothing is written
// beyond the planes.
TEST_P(BitPlanes, PutEveryBitInItsPlace) {
  const int bits = GetParam();
  for (const std::int64_t dim : {1, 2, 5, 7, 8, 9, 15, 16, 17, 64, 67, 257}) {
    const std::vector<std::uint8_t> indices = random_indices(dim, bits);
    const auto size = static_cast<std::size_t>(bits * plane_bytes(dim));
    constexpr std::uint8_t guard = 0xA5;
    std::vector<std::uint8_t> planes(size + 8, guard);
    pack_planes(indices.data(), dim, bits, planes.data());
    std::vector<std::uint8_t> expected(size, 0);
    for (std::int64_t c = 0; c < dim; ++c) {
      for (int j = 0; j < bits; ++j) {
        const int bit = indices[static_cast<std::size_t>(c)] >> j & 1;
        expected[static_cast<std::size_t>(j * plane_bytes(dim) + c / 8)] |=
            static_cast<std::uint8_t>(bit << (c % 8));
      }
    }
    expected.resize(size + 8, guard);
    EXPECT_EQ(planes, expected) << "dim " << dim;
  }
}

TEST_P(BitPlanes, ReadBackWhatWasPacked) {
  const int bits = GetParam();
  for (std::int64_t dim = 1; dim <= 70; ++dim) {
    const std::vector<std::uint8_t> indices = random_indices(dim, bits);
    std::vector<std::uint8_t> planes(static_cast<std::size_t>(bits * plane_bytes(dim)));
    std::vector<std::uint8_t> read(static_cast<std::size_t>(dim) + 8, 0x5A);
    pack_planes(indices.data(), dim, bits, planes.data());
    unpack_planes(planes.data(), dim, bits, read.data());
    std::vector<std::uint8_t> expected = indices;
    expected.resize(expected.size() + 8, 0x5A);
    EXPECT_EQ(read, expected) << "dim " << dim;
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, BitPlanes, ::testing::Range(1, 9));

}  // namespace
}  // namespace rotorquant
