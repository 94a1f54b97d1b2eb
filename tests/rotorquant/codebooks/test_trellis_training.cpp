// The training of trellis codebooks, and the shipped tables against their recorded distortions.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "rotorquant/codebooks/trellis_tables.hpp"
#include "rotorquant/codebooks/trellis_training.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant {

void PrintTo(const TrellisTable& table, std::ostream* out) {
  *out << "memory " << table.memory << " width " << table.width;
}

namespace {

// Distortions of an independent training with 25 rounds, by width - 1.
constexpr double reference_3[] = {0.310059, 0.0861243, 0.0217511, 0.00586314};
constexpr double reference_5[] = {0.301281,   0.079798,    0.0202188,   0.00515117,
                                  0.00149191, 0.000393681, 0.000106911, 2.42518e-05};

TEST(TrellisTraining, ReachesTheReferenceInSeconds) {
  // One start and 4,000 vectors where the shipped tables had up to 64 and 80,000.
  constexpr double allowance = 1.03;
  const std::vector<std::int16_t> narrow =
      train_trellis({}, {.memory = 3, .width = 2, .vectors = 4000, .seed = 11});
  EXPECT_LT(measure_trellis_mse({}, 3, 2, narrow, 10000, 12), allowance * reference_3[1]);
  const std::vector<std::int16_t> wide =
      train_trellis({}, {.memory = 5, .width = 3, .vectors = 4000, .seed = 11});
  EXPECT_LT(measure_trellis_mse({}, 5, 3, wide, 10000, 12), allowance * reference_5[2]);
}

TEST(TrellisTraining, DoesNotDependOnTheNumberOfThreads) {
  const TrellisTraining training{
      .memory = 5, .width = 1, .vectors = 700, .rounds = 6, .starts = 3, .seed = 5};
  const std::vector<std::int16_t> levels = train_trellis({.threads = 1}, training);
  EXPECT_EQ(levels, train_trellis({.threads = 2}, training));
  EXPECT_EQ(levels, train_trellis({.threads = 3}, training));
  EXPECT_EQ(measure_trellis_mse({.threads = 1}, 5, 1, levels, 700, 6),
            measure_trellis_mse({.threads = 3}, 5, 1, levels, 700, 6));
  TrellisTraining other = training;
  other.seed = 6;
  EXPECT_NE(levels, train_trellis({}, other));
}

class ShippedTrellisTable : public testing::TestWithParam<TrellisTable> {};
INSTANTIATE_TEST_SUITE_P(All, ShippedTrellisTable,
                         testing::ValuesIn(trellis_tables().begin(), trellis_tables().end()),
                         [](const auto& table) {
                           return fmt::format("M{}w{}", table.param.memory, table.param.width);
                         });

TEST_P(ShippedTrellisTable, HasItsRecordedDistortionOnFreshVectors) {
  const TrellisTable& table = GetParam();
  constexpr std::int64_t vectors = 20000;
  // Four standard errors of a mean over 1.28 million coordinates, each with a relative deviation of about
  // 1.6; at high rates a few coordinates beyond the outermost level weigh far more.
  const double tolerance = table.width <= 6 ? 0.006 : 0.02;
  const double mse = measure_trellis_mse({}, table.memory, table.width, table.levels, vectors, 77);
  EXPECT_NEAR(mse / table.mse, 1.0, tolerance);
}

TEST_P(ShippedTrellisTable, IsStoredInTheIntegersItPromises) {
  const TrellisTable& table = GetParam();
  EXPECT_EQ(table.levels.size(), std::size_t{1} << (table.memory + table.width));
  EXPECT_EQ(table.scale, table.width <= 7 ? 32 : 1024);
  for (const std::int16_t level : table.levels) {
    if (table.width <= 7) {
      EXPECT_TRUE(level >= -128 && level <= 127) << level;
    }
  }
}

TEST(TrellisTables, AreAsGoodAsTheReferenceTraining) {
  constexpr double allowance = 1.01;
  for (int width = 1; width <= 4; ++width) {
    EXPECT_LE(trellis_table(3, width).mse, allowance * reference_3[width - 1]) << "M=3 w=" << width;
  }
  for (int width = 1; width <= 8; ++width) {
    EXPECT_LE(trellis_table(5, width).mse, allowance * reference_5[width - 1]) << "M=5 w=" << width;
  }
}

TEST(TrellisTables, NameTheValidOnesInTheirError) {
  EXPECT_THROW(trellis_table(4, 1), Error);
  try {
    trellis_table(5, 9);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("5/8"), std::string::npos);
  }
}

}  // namespace
}  // namespace rotorquant
