// The search of levels of mixed widths: by its definition, and the same bits in every instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/codes/codes.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"
#include "rotorquant/quantizers/level_search.hpp"

namespace rotorquant {
namespace {

const std::vector<std::int64_t> dims = {1,  2,  3,  4,  5,  6,  7,   8,   9,   31,  32,  33,
                                        63, 64, 65, 66, 80, 96, 127, 128, 129, 130, 256, 257};

std::vector<NormalLevels> all_levels() {
  std::vector<NormalLevels> levels;
  for (int width = 0; width <= max_width; ++width) levels.emplace_back(width);
  return levels;
}

TEST(NormalLevels, IndexCountsTheBoundariesStrictlyBelow) {
  for (int width = 1; width <= max_width; ++width) {
    const NormalLevels levels(width);
    const std::vector<double> expected = lloyd_max_normal_levels(width);
    for (std::size_t i = 0; i + 1 < expected.size(); ++i) {
      const auto index = static_cast<std::uint8_t>(i);
      EXPECT_EQ(levels[index], static_cast<float>(expected[i]));
      const float boundary = 0.5F * (levels[index] + levels[static_cast<std::uint8_t>(i + 1)]);
      EXPECT_EQ(levels.index_of(boundary), i);
      EXPECT_EQ(levels.index_of(std::nextafter(boundary, 10.0F)), i + 1);
    }
    EXPECT_EQ(levels.index_of(-1e30F), 0);
    EXPECT_EQ(levels.index_of(1e30F), expected.size() - 1);
  }
}

// Residuals that meet every level of every width, boundaries among them.
TEST(LevelSearch, IsTheSameInEveryInstructionSet) {
  const std::vector<NormalLevels> levels = all_levels();
  RandomStream random(3, Purpose::synthetic);
  for (const std::int64_t dim : dims) {
    const auto n = static_cast<std::size_t>(dim);
    for (int trial = 0; trial < 40; ++trial) {
      std::vector<std::uint8_t> widths(n);
      for (std::uint8_t& width : widths)
        width = static_cast<std::uint8_t>(trial == 0 ? 0 : random.integer(1 + std::min(trial, max_width)));
      std::sort(widths.begin(), widths.end(), std::greater<>());
      std::vector<float> y(n), diagonal(n);
      for (std::size_t i = 0; i < n; ++i) {
        const NormalLevels& own = levels[widths[i]];
        const auto last = static_cast<std::int64_t>(1) << widths[i];
        const auto index = static_cast<std::uint8_t>(random.integer(std::max<std::int64_t>(1, last - 1)));
        y[i] = trial % 2 == 0
                   ? static_cast<float>(2.0 * random.normal())
                   : 0.5F * (own[index] +
                             own[static_cast<std::uint8_t>(std::min<std::int64_t>(last - 1, index + 1))]);
        diagonal[i] = static_cast<float>(std::exp2(random.normal()));
      }
      LevelSearch search;
      search.dim = dim;
      search.levels = levels.data();
      search.diagonal = diagonal.data();
      for (int width = 0; width <= max_width; ++width) {
        search.ends[static_cast<std::size_t>(width)] =
            std::count_if(widths.begin(), widths.end(), [&](std::uint8_t other) { return other >= width; });
      }
      const float scale = trial % 4 == 1 ? 1.0F : 0.75F;
      constexpr std::uint8_t untouched = 0xEE;
      std::vector<std::uint8_t> symbols(n, untouched);
      search_levels(Isa::serial, search, y.data(), scale, symbols.data());
      // Of the same residual in lane 3, at the same scale, once as it is and once with something to subtract;
      // the other lanes have other scales.
      ScratchFloats scratch;
      float* columns = scratch.reserve(dim * cascade_lanes);
      std::vector<float> less(n), scales(cascade_lanes), costs(cascade_lanes), other_costs(cascade_lanes);
      for (float& value : less) value = static_cast<float>(random.normal());
      for (std::size_t v = 0; v < scales.size(); ++v)
        scales[v] = v == 3 ? scale : static_cast<float>(std::exp2(random.normal()));
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t v = 0; v < scales.size(); ++v) columns[i * cascade_lanes + v] = y[i];
      }
      level_costs(Isa::serial, search, columns, nullptr, scales.data(), costs.data());
      double expected = 0.0;
      double rounding = 0.0;  // what errors that are off by a float32 rounding of y cost
      for (std::size_t i = 0; i < n; ++i) {
        if (widths[i] == 0) {
          EXPECT_EQ(symbols[i], untouched);
        }
        const double level = widths[i] == 0 ? 0.0 : levels[widths[i]][symbols[i]];
        const double error = static_cast<double>(y[i]) - static_cast<double>(scale) * level;
        expected += static_cast<double>(diagonal[i]) * error * error;
        const double step = std::abs(static_cast<double>(y[i])) * 0x1p-23;
        rounding += static_cast<double>(diagonal[i]) * (2.0 * std::abs(error) + step) * step;
      }
      EXPECT_NEAR(costs[3], expected, 2e-5 * expected + rounding);
      for (const Isa isa : {Isa::avx2, Isa::avx512}) {
        if (!isa_supported(isa)) continue;
        std::vector<std::uint8_t> other(n, untouched);
        search_levels(isa, search, y.data(), scale, other.data());
        EXPECT_EQ(other, symbols) << isa_name(isa) << ", dim " << dim;
        level_costs(isa, search, columns, nullptr, scales.data(), other_costs.data());
        EXPECT_EQ(other_costs, costs) << isa_name(isa) << ", dim " << dim;
      }
      level_costs(Isa::serial, search, columns, less.data(), scales.data(), costs.data());
      for (const Isa isa : {Isa::avx2, Isa::avx512}) {
        if (!isa_supported(isa)) continue;
        level_costs(isa, search, columns, less.data(), scales.data(), other_costs.data());
        EXPECT_EQ(other_costs, costs) << isa_name(isa) << ", dim " << dim;
      }
    }
  }
}

TEST(SquaredDistance, IsTheSameInEveryInstructionSet) {
  RandomStream random(4, Purpose::synthetic);
  for (const std::int64_t dim : dims) {
    std::vector<float> x(static_cast<std::size_t>(dim)), y(x.size()), offset(x.size());
    for (std::vector<float>* values : {&x, &y, &offset}) {
      for (float& value : *values) value = static_cast<float>(random.normal());
    }
    for (const bool shifted : {false, true}) {
      const float* shift = shifted ? offset.data() : nullptr;
      double expected = 0.0;
      for (std::size_t i = 0; i < x.size(); ++i)
        expected += std::pow(static_cast<double>(x[i]) - y[i] + (shift != nullptr ? shift[i] : 0.0F), 2);
      const double got = squared_distance(Isa::serial, x.data(), y.data(), shift, dim);
      EXPECT_NEAR(got, expected, 1e-6 * expected);
      for (const Isa isa : {Isa::avx2, Isa::avx512}) {
        if (!isa_supported(isa)) continue;
        EXPECT_EQ(squared_distance(isa, x.data(), y.data(), shift, dim), got)
            << isa_name(isa) << ", dim " << dim;
      }
    }
  }
}

TEST(CalibratedCodec, HasTheSameCodesInEveryInstructionSet) {
  constexpr std::int64_t count = 9;
  for (const std::int64_t dim : dims) {
    for (const int bits : {1, 2, 3, 4, 8}) {
      for (const CalibratedSearch& search : {CalibratedSearch{}, nearest_search}) {
        for (const CalibratedCodecKind kind :
             {CalibratedCodecKind::lloyd_max, CalibratedCodecKind::trellis}) {
          if (bits * dim + 7 > 8 * dim) continue;  // more bits than widths can take
          const auto parameters = testing_support::random_parameters(dim, bits, BlockKind::general);
          const std::vector<float> keys = testing_support::random_keys(*parameters, count);
          CalibratedCode code;
          code.kind = kind;
          const CalibratedCodec serial(parameters, {}, search, code, Isa::serial);
          CodeBuffer expected(serial.layout(), count);
          serial.encode({}, {keys.data(), count, dim}, expected.view());
          const auto bytes = static_cast<std::size_t>(count * serial.layout().arrays[0].bytes_per_vector());
          for (const Isa isa : {Isa::avx2, Isa::avx512}) {
            if (!isa_supported(isa)) continue;
            const CalibratedCodec other(parameters, {}, search, code, isa);
            CodeBuffer got(other.layout(), count);
            other.encode({}, {keys.data(), count, dim}, got.view());
            EXPECT_TRUE(
                std::equal(got.view().arrays[0], got.view().arrays[0] + bytes, expected.view().arrays[0]))
                << isa_name(isa) << ", dim " << dim << ", " << bits << " bits";
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace rotorquant
