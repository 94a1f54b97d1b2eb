#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "rotorquant/codes/bit_allocation.hpp"
#include "rotorquant/codes/mixed_planes.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

// The format bit by bit: coordinates by descending width, ties by index; plane j has those wider than j.
std::vector<bool> expected_bits(const std::vector<std::uint8_t>& widths,
                                const std::vector<std::uint8_t>& by_coordinate) {
  std::vector<std::size_t> order(widths.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return widths[a] > widths[b]; });
  std::vector<bool> bits;
  for (int plane = 0; plane < max_width; ++plane) {
    for (const std::size_t c : order) {
      if (widths[c] > plane) bits.push_back(((by_coordinate[c] >> plane) & 1) != 0);
    }
  }
  return bits;
}

TEST(MixedPlanes, StoresPlanesAsSpecifiedAndReadsThemBack) {
  RandomStream random(3, Purpose::synthetic);
  for (const std::size_t dim : {1U, 2U, 7U, 8U, 9U, 64U, 80U, 129U}) {
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<std::uint8_t> widths(dim);
      std::vector<std::uint8_t> symbols(dim);
      for (std::size_t c = 0; c < dim; ++c) {
        widths[c] = static_cast<std::uint8_t>(random.integer(max_width + 1));
        symbols[c] = static_cast<std::uint8_t>(random.integer(std::int64_t{1} << widths[c]));
      }
      const MixedPlanes planes(widths);
      ASSERT_EQ(planes.bits(), std::accumulate(widths.begin(), widths.end(), std::int64_t{0}));
      std::vector<std::uint8_t> ordered(static_cast<std::size_t>(planes.symbol_bytes()), 0);
      for (std::size_t i = 0; i < dim; ++i) ordered[i] = symbols[static_cast<std::size_t>(planes.order()[i])];

      // Something before and after the planes, as other fields are.
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(planes.bits() + 3 + 5 + 7) / 8, 0xFF);
      trellis::BitWriter writer(bytes.data());
      writer.append(0b101, 3);
      planes.write(ordered.data(), writer);
      writer.append(0b10011, 5);
      writer.finish();

      const std::vector<bool> expected = expected_bits(widths, symbols);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(((bytes[(i + 3) / 8] >> ((i + 3) % 8)) & 1) != 0, expected[i])
            << "dim " << dim << ", bit " << i;
      }
      std::vector<std::uint8_t> read(ordered.size(), 0xAA);
      planes.read({bytes.data(), bytes.size()}, 3, read.data());
      for (std::size_t i = 0; i < dim; ++i)
        ASSERT_EQ(read[i], ordered[i]) << "dim " << dim << ", position " << i;
    }
  }
}

TEST(BitAllocation, SpendsTheBudgetWhereItLowersDistortionMost) {
  RandomStream random(4, Purpose::synthetic);
  const WidthDistortions& distortions = lloyd_max_distortions();
  // Three coordinates and every possible split: greedy is optimal because the distortions are convex.
  for (int trial = 0; trial < 50; ++trial) {
    const std::vector<double> energy = {random.uniform(), 0.1 * random.uniform(), 10.0 * random.uniform()};
    const auto cost = [&](int a, int b, int c) {
      return energy[0] * distortions[static_cast<std::size_t>(a)] +
             energy[1] * distortions[static_cast<std::size_t>(b)] +
             energy[2] * distortions[static_cast<std::size_t>(c)];
    };
    constexpr int total = 9;
    double least = 1e300;
    for (int a = 0; a <= 8; ++a) {
      for (int b = 0; a + b <= total; ++b) {
        if (b <= 8 && total - a - b <= 8) least = std::min(least, cost(a, b, total - a - b));
      }
    }
    const std::vector<std::uint8_t> widths = allocate_widths(energy, total, distortions);
    EXPECT_EQ(widths[0] + widths[1] + widths[2], total);
    EXPECT_NEAR(cost(widths[0], widths[1], widths[2]), least, 1e-12 * least);
  }
}

TEST(BitAllocation, TiesGoToTheLowerIndexAndWidthsEndAtEight) {
  const std::vector<double> equal(4, 1.0);
  EXPECT_EQ(allocate_widths(equal, 6, lloyd_max_distortions()), (std::vector<std::uint8_t>{2, 2, 1, 1}));
  EXPECT_EQ(allocate_widths(equal, 100, lloyd_max_distortions()), (std::vector<std::uint8_t>{8, 8, 8, 8}));
  const std::vector<double> silent = {0.0, 0.0};
  EXPECT_EQ(allocate_widths(silent, 3, lloyd_max_distortions()), (std::vector<std::uint8_t>{3, 0}));
}

}  // namespace
}  // namespace rotorquant
