// Trellis codes against their definition, against exhaustive search, and across instruction sets.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "rotorquant/codes/trellis.hpp"
#include "rotorquant/codes/trellis_planes.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"
#include "support/isas.hpp"

namespace rotorquant {
namespace {

using test::supported_isas;

std::vector<float> gaussian(RandomStream& random, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

// Widths 0..widest, one in five of them 0.
std::vector<std::uint8_t> random_widths(RandomStream& random, std::size_t dim, int widest) {
  std::vector<std::uint8_t> widths(dim);
  for (std::uint8_t& width : widths) {
    width = random.integer(5) == 0 ? std::uint8_t{0} : static_cast<std::uint8_t>(1 + random.integer(widest));
  }
  return widths;
}

std::vector<std::uint8_t> random_symbols(RandomStream& random, std::span<const std::uint8_t> widths) {
  std::vector<std::uint8_t> symbols;
  for (const std::uint8_t width : widths)
    symbols.push_back(static_cast<std::uint8_t>(random.integer(1 << width)));
  return symbols;
}

std::vector<std::uint8_t> encoded(const TrellisCode& code, const std::vector<float>& y,
                                  const float* weight = nullptr) {
  TrellisWorkspace workspace;
  std::vector<std::uint8_t> symbols(y.size());
  code.encode(y.data(), weight, symbols.data(), workspace);
  return symbols;
}

std::vector<float> decoded(const TrellisCode& code, const std::vector<std::uint8_t>& symbols) {
  std::vector<float> y_hat(symbols.size());
  code.decode(symbols.data(), y_hat.data());
  return y_hat;
}

double weighted_error(const std::vector<float>& y, const std::vector<float>& y_hat,
                      const std::vector<float>& weight) {
  double sum = 0.0;
  for (std::size_t t = 0; t < y.size(); ++t) {
    const double difference = static_cast<double>(y[t]) - static_cast<double>(y_hat[t]);
    sum += static_cast<double>(weight[t]) * difference * difference;
  }
  return sum;
}

class Trellis : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Memories, Trellis, testing::Values(3, 5),
                         [](const auto& memory) { return fmt::format("M{}", memory.param); });

// The definition, coordinate by coordinate: bit i of r is the lowest bit of used coordinate (t - i) mod n.
TEST_P(Trellis, DecodesAsDefined) {
  const int memory = GetParam();
  RandomStream random(1, Purpose::synthetic);
  for (const std::size_t dim : {1U, 2U, 3U, 4U, 5U, 7U, 8U, 9U, 31U, 64U, 97U, 130U}) {
    const std::vector<std::uint8_t> widths = random_widths(random, dim, max_trellis_width);
    const std::vector<std::uint8_t> symbols = random_symbols(random, widths);
    std::vector<std::size_t> used;
    for (std::size_t t = 0; t < dim; ++t) {
      if (widths[t] > 0) used.push_back(t);
    }
    std::vector<float> expected(dim, 0.0F);
    const auto n = static_cast<int>(used.size());
    for (int i = 0; i < n; ++i) {
      std::size_t r = 0;
      for (int back = 0; back <= memory; ++back) {
        const int other = ((i - back) % n + n) % n;
        r |= (symbols[used[static_cast<std::size_t>(other)]] & std::size_t{1}) << back;
      }
      const std::size_t t = used[static_cast<std::size_t>(i)];
      const TrellisTable& table = trellis_table(memory, widths[t]);
      const auto level =
          table.levels[static_cast<std::size_t>(symbols[t] >> 1) * (std::size_t{2} << memory) + r];
      expected[t] = static_cast<float>(level) / static_cast<float>(table.scale);
    }
    EXPECT_EQ(decoded(TrellisCode(widths, memory), symbols), expected) << "dim " << dim;
  }
}

// Up to 12 used coordinates the encoder is exact: no assignment of symbols has a smaller weighted error.
TEST_P(Trellis, FindsTheOptimumOfShortVectors) {
  const int memory = GetParam();
  constexpr int most_bits = 11;              // 2^11 assignments to try
  constexpr double float32_rounding = 1e-5;  // path costs are float32 sums of a dozen terms
  RandomStream random(2, Purpose::synthetic);
  for (int trial = 0; trial < 40; ++trial) {
    const auto dim = static_cast<std::size_t>(1 + trial % 11);
    std::vector<std::uint8_t> widths(dim, 0);
    for (int bits = 0; bits < most_bits;) {
      std::uint8_t& width = widths[static_cast<std::size_t>(random.integer(static_cast<std::int64_t>(dim)))];
      if (width < max_trellis_width) ++width;
      bits += 1;
    }
    const std::vector<float> y = gaussian(random, dim);
    std::vector<float> weight(dim);
    for (float& w : weight) w = static_cast<float>(0.1 + random.uniform());

    const TrellisCode code(widths, memory);
    double least = HUGE_VAL;
    for (unsigned assignment = 0; assignment < 1U << most_bits; ++assignment) {
      std::vector<std::uint8_t> symbols(dim);
      unsigned rest = assignment;
      for (std::size_t t = 0; t < dim; ++t) {
        symbols[t] = static_cast<std::uint8_t>(rest & ((1U << widths[t]) - 1U));
        rest >>= widths[t];
      }
      least = std::min(least, weighted_error(y, decoded(code, symbols), weight));
    }
    for (const Isa isa : supported_isas()) {
      const TrellisCode same(widths, memory, isa);
      const double error = weighted_error(y, decoded(same, encoded(same, y, weight.data())), weight);
      EXPECT_LE(error, least + float32_rounding) << "trial " << trial << " " << isa_name(isa);
    }
  }
}

TEST_P(Trellis, GivesTheSameCodesOnEveryInstructionSet) {
  const int memory = GetParam();
  RandomStream random(3, Purpose::synthetic);
  for (const std::size_t dim : {1U, 5U, 13U, 24U, 40U, 64U, 80U, 129U, 576U, 4096U}) {
    for (int trial = 0; trial < (dim < 200 ? 20 : 1); ++trial) {
      const std::vector<std::uint8_t> widths = random_widths(random, dim, max_trellis_width);
      std::vector<float> y = gaussian(random, dim);
      y[0] *= 100.0F;  // far outside the tables
      std::vector<float> weight(dim);
      for (float& w : weight) w = static_cast<float>(random.uniform());
      const float* const weights = trial % 2 == 0 ? weight.data() : nullptr;
      const std::vector<std::uint8_t> expected =
          encoded(TrellisCode(widths, memory, Isa::serial), y, weights);
      for (std::size_t t = 0; t < dim; ++t) ASSERT_LT(expected[t], 1 << widths[t]);
      for (const Isa isa : supported_isas()) {
        EXPECT_EQ(encoded(TrellisCode(widths, memory, isa), y, weights), expected)
            << "dim " << dim << " trial " << trial << " " << isa_name(isa);
      }
    }
  }
}

TEST_P(Trellis, UnusedCoordinatesDoNotMatter) {
  const int memory = GetParam();
  RandomStream random(4, Purpose::synthetic);
  const std::vector<std::uint8_t> widths = random_widths(random, 90, max_trellis_width);
  const std::vector<float> y = gaussian(random, widths.size());
  std::vector<std::uint8_t> used_widths;
  std::vector<float> used_y;
  for (std::size_t t = 0; t < widths.size(); ++t) {
    if (widths[t] == 0) continue;
    used_widths.push_back(widths[t]);
    used_y.push_back(y[t]);
  }
  const TrellisCode code(widths, memory);
  const TrellisCode dense(used_widths, memory);
  const std::vector<std::uint8_t> symbols = encoded(code, y);
  const std::vector<float> y_hat = decoded(code, symbols);
  const std::vector<std::uint8_t> dense_symbols = encoded(dense, used_y);
  const std::vector<float> dense_y_hat = decoded(dense, dense_symbols);
  for (std::size_t t = 0, i = 0; t < widths.size(); ++t) {
    EXPECT_EQ(symbols[t], widths[t] == 0 ? 0 : dense_symbols[i]);
    EXPECT_EQ(y_hat[t], widths[t] == 0 ? 0.0F : dense_y_hat[i]);
    if (widths[t] > 0) ++i;
  }

  const std::vector<std::uint8_t> nothing(7, 0);
  const TrellisCode empty(nothing, memory);
  EXPECT_EQ(encoded(empty, std::vector<float>(7, 1.0F)), nothing);
  EXPECT_EQ(decoded(empty, nothing), std::vector<float>(7, 0.0F));
}

// One outlier of thousands of squared units must not drown the path costs of the coordinates after it.
TEST_P(Trellis, LongVectorsWithOutliersReachTheTableDistortion) {
  const int memory = GetParam();
  constexpr int width = 4;
  constexpr std::size_t dim = 4096;
  constexpr double sampling_tolerance =
      1.10;  // 3 standard errors of the mean over 4096 coordinates, and a finer one
  RandomStream random(5, Purpose::synthetic);
  std::vector<float> y = gaussian(random, dim);
  for (std::size_t t = 0; t < dim; t += 512) y[t] = 64.0F;
  const TrellisCode code(std::vector<std::uint8_t>(dim, width), memory);
  const std::vector<float> y_hat = decoded(code, encoded(code, y));
  double error = 0.0;
  for (std::size_t t = 0; t < dim; ++t) {
    const double difference = static_cast<double>(y[t]) - static_cast<double>(y_hat[t]);
    if (t % 512 > 16) error += difference * difference;  // the outlier's neighbours pay for it
  }
  EXPECT_LT(error / (dim - 8 * 17), sampling_tolerance * trellis_table(memory, width).mse);
}

// The distortion of uniform widths does not depend on the length of the vectors: closing the circle costs
// little.
TEST_P(Trellis, DistortionIsTheSameAtEveryHeadDimension) {
  const int memory = GetParam();
  constexpr std::size_t coordinates = 192000;
  constexpr double tolerance = 0.03;
  for (int width = 1; width <= 4; ++width) {
    std::vector<double> distortions;
    for (const std::size_t dim : {64U, 80U, 96U, 128U}) {
      RandomStream random(8, Purpose::synthetic, static_cast<std::uint32_t>(dim));
      const TrellisCode code(std::vector<std::uint8_t>(dim, static_cast<std::uint8_t>(width)), memory);
      const std::vector<float> ones(dim, 1.0F);
      double error = 0.0;
      for (std::size_t vector = 0; vector < coordinates / dim; ++vector) {
        const std::vector<float> y = gaussian(random, dim);
        error += weighted_error(y, decoded(code, encoded(code, y)), ones);
      }
      distortions.push_back(error / static_cast<double>(coordinates / dim * dim));
    }
    for (const double distortion : distortions) {
      EXPECT_NEAR(distortion / distortions.front(), 1.0, tolerance) << width << " bits";
    }
  }
}

TEST_P(Trellis, WeightsMoveTheErrorToLightCoordinates) {
  const int memory = GetParam();
  RandomStream random(6, Purpose::synthetic);
  const TrellisCode code(std::vector<std::uint8_t>(64, 2), memory);
  std::vector<float> weight(64);
  for (std::size_t t = 0; t < 64; ++t) weight[t] = t % 2 == 0 ? 4.0F : 1.0F;
  double plain = 0.0;
  double weighted = 0.0;
  for (int trial = 0; trial < 100; ++trial) {
    const std::vector<float> y = gaussian(random, 64);
    plain += weighted_error(y, decoded(code, encoded(code, y)), weight);
    weighted += weighted_error(y, decoded(code, encoded(code, y, weight.data())), weight);
  }
  EXPECT_LT(weighted, 0.97 * plain);
}

TEST(TrellisCode, RefusesWhatItCannotCode) {
  EXPECT_THROW(TrellisCode(std::vector<std::uint8_t>{}, 5), Error);
  EXPECT_THROW(TrellisCode(std::vector<std::uint8_t>(4097, 1), 5), Error);
  EXPECT_THROW(TrellisCode(std::vector<std::uint8_t>{9}, 5), Error);
  EXPECT_THROW(TrellisCode(std::vector<std::uint8_t>{1}, 4), Error);
  const auto narrow =
      std::make_shared<const TrellisCodebook>(std::vector{TrellisLevels(trellis_table(5, 1))});
  EXPECT_THROW(TrellisCode(std::vector<std::uint8_t>{2}, narrow), Error);
}

TEST(TrellisLevels, FindTheNearestLevelOfEveryRegister) {
  RandomStream random(7, Purpose::synthetic);
  for (const TrellisTable& table : trellis_tables()) {
    const TrellisLevels levels(table);
    const std::size_t registers = std::size_t{2} << table.memory;
    for (int trial = 0; trial < 200; ++trial) {
      const auto y = static_cast<float>((trial < 10 ? 50.0 : 1.5) * random.normal());
      const int cell = levels.cell(y);
      for (std::size_t r = 0; r < registers; r += trial % 7 + 1U) {
        float least = HUGE_VALF;
        for (std::size_t i = r; i < levels.values().size(); i += registers) {
          least = std::min(least, std::fabs(y - levels.values()[i]));
        }
        const float* const row = levels.row(cell);
        const std::uint8_t u = levels.choices(cell)[r + (y > row[r] ? registers : 0)];
        EXPECT_EQ(std::fabs(y - levels.values()[u * registers + r]), least);
        EXPECT_NEAR(std::fabs(std::fabs(y - row[r]) - row[registers + r]), least,
                    1e-5F * std::fabs(y) + 1e-7F);
      }
    }
  }
}

TEST(TrellisLevels, AcceptEqualLevelsAndRefuseInseparableOnes) {
  std::vector<float> values(32, 0.0F);  // memory 3, width 2: both levels of every register equal
  EXPECT_NO_THROW(TrellisLevels(3, 2, values));
  std::vector<float> four(64, 0.0F);
  for (std::size_t r = 0; r < 16; ++r) {
    four[16 + r] = 1e-6F;
    four[32 + r] = 2e-6F;
    four[48 + r] = 1.0F;
  }
  EXPECT_THROW(TrellisLevels(3, 3, four), Error);
  values[5] = NAN;
  EXPECT_THROW(TrellisLevels(3, 2, values), Error);
  EXPECT_THROW(TrellisLevels(3, 3, values), Error);
}

TEST(TrellisPlanes, SortByWidthThenIndexAndConcatenate) {
  // Order of widths {1, 3, 0, 2, 3}: coordinates 1, 4 (width 3), 3 (width 2), 0 (width 1).
  const std::vector<std::uint8_t> widths{1, 3, 0, 2, 3};
  const TrellisPlanes planes(widths);
  EXPECT_EQ(planes.bits(), 9);
  EXPECT_EQ(planes.bytes(), 2);
  const std::vector<std::uint8_t> symbols{1, 0b110, 0, 0b10, 0b011};
  // Plane 0: 0 1 0 1; plane 1: 1 1 1; plane 2: 1 | 0.
  std::uint8_t packed[2];
  planes.pack(symbols.data(), packed);
  EXPECT_EQ(packed[0], 0b1111'1010);
  EXPECT_EQ(packed[1], 0);
  std::vector<std::uint8_t> unpacked(5, 0xFF);
  planes.unpack(packed, unpacked.data());
  EXPECT_EQ(unpacked, symbols);
}

TEST(TrellisPlanes, RoundTripForAnyMixOfWidths) {
  RandomStream random(8, Purpose::synthetic);
  for (std::size_t dim = 1; dim <= 4096; dim = dim < 140 ? dim + 1 : dim * 3 / 2) {
    const std::vector<std::uint8_t> widths = random_widths(random, dim, 8);
    const std::vector<std::uint8_t> symbols = random_symbols(random, widths);
    const TrellisPlanes planes(widths);
    std::int64_t bits = 0;
    for (const std::uint8_t width : widths) bits += width;
    ASSERT_EQ(planes.bits(), bits);
    // A guard byte shows writes past the end; reads past it are the sanitizer's to find.
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(planes.bytes()) + 1, 0xA5);
    planes.pack(symbols.data(), packed.data());
    ASSERT_EQ(packed.back(), 0xA5);
    if (bits % 8 != 0) {
      ASSERT_EQ(packed[packed.size() - 2] >> (bits % 8), 0);
    }
    const std::vector<std::uint8_t> exact(packed.begin(), packed.end() - 1);
    std::vector<std::uint8_t> unpacked(dim, 0xFF);
    planes.unpack(exact.data(), unpacked.data());
    ASSERT_EQ(unpacked, symbols) << "dim " << dim;
  }
}

}  // namespace
}  // namespace rotorquant
