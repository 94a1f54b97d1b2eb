// Calibrated keys in blocks of columns: the cascade's program against its matrix, and the same bits in every
// instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/calibrated_columns.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"
#include "rotorquant/quantizers/centroid_grid.hpp"
#include "rotorquant/quantizers/centroid_search.hpp"
#include "rotorquant/quantizers/scale_codes.hpp"

namespace rotorquant {
namespace {

using testing_support::random_keys;
using testing_support::random_parameters;

const std::vector<std::int64_t> dims = {1,  2,  3,  4,  5,  6,  7,   8,   9,   31,  32,  33,
                                        63, 64, 65, 66, 80, 96, 127, 128, 129, 130, 256, 257};

std::vector<Isa> other_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    if (isa_supported(isa)) isas.push_back(isa);
  }
  return isas;
}

using RunSteps = void(std::span<const CascadeStep> steps, float* columns);

// Outputs [dim] of each lane.
std::vector<float> run(const CascadeProgram& program, const std::vector<float>& inputs,
                       const std::function<RunSteps>& run_steps) {
  ScratchFloats scratch;
  float* columns = scratch.reserve(static_cast<std::int64_t>(inputs.size()));
  const std::size_t dim = program.slots.size();
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t v = 0; v < cascade_lanes; ++v) {
      columns[static_cast<std::size_t>(program.slots[i]) * cascade_lanes + v] =
          inputs[i * cascade_lanes + v] * program.scales[i];
    }
  }
  run_steps(program.steps, columns);
  return {columns, columns + inputs.size()};
}

std::vector<float> run(Isa isa, const CascadeProgram& program, const std::vector<float>& inputs) {
  return run(program, inputs,
             [&](std::span<const CascadeStep> steps, float* columns) { run_steps(isa, steps, columns); });
}

TEST(CascadeProgram, IsTheMatrixAndItsInverseInEveryInstructionSet) {
  RandomStream random(5, Purpose::synthetic);
  for (const std::int64_t dim : dims) {
    for (const BlockKind kind : {BlockKind::rotor, BlockKind::general}) {
      const auto parameters = random_parameters(dim, 3, kind);
      const BlockCascade& cascade = parameters->transform;
      const auto n = static_cast<std::size_t>(dim);
      const std::vector<double> deviations = sequence_deviations(*parameters, {});
      std::vector<std::int32_t> order;
      for (std::int64_t k = 0; k < dim; ++k) order.push_back(static_cast<std::int32_t>(dim - 1 - k));
      std::vector<float> x(n * cascade_lanes);
      for (float& value : x) value = static_cast<float>(random.normal());
      const CascadeProgram forward = forward_program(cascade, deviations, order);
      const std::vector<float> y = run(Isa::serial, forward, x);
      const std::vector<double> matrix = cascade.matrix();
      for (std::size_t k = 0; k < n; ++k) {
        const auto coordinate = static_cast<std::size_t>(order[k]);
        double sum = 0.0, size = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
          const double term = matrix[coordinate * n + i] * static_cast<double>(x[i * cascade_lanes + 3]);
          sum += term;
          size += std::abs(term);
        }
        // A few roundings a layer.
        EXPECT_NEAR(y[k * cascade_lanes + 3], sum / deviations[coordinate],
                    1e-5 * (size + 1.0) / deviations[coordinate]);
      }
      const CascadeProgram inverse = inverse_program(cascade, deviations, order);
      const std::vector<float> back = run(Isa::serial, inverse, y);
      for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(back[i], x[i], 1e-4 * 16.0) << dim;
      for (const Isa isa : other_isas()) {
        EXPECT_EQ(run(isa, forward, x), y) << isa_name(isa) << ", dim " << dim;
        EXPECT_EQ(run(isa, inverse, y), back) << isa_name(isa) << ", dim " << dim;
      }
#if defined(__x86_64__)
      if (isa_supported(Isa::avx512)) {  // also where run_steps() prefers shorter registers
        EXPECT_EQ(run(forward, x, run_steps_avx512), y) << dim;
      }
#endif
      const double largest = largest_column(forward, 6.0);
      for (std::size_t k = 0; k < y.size(); ++k) EXPECT_LE(std::abs(y[k]), largest);
    }
  }
}

TEST(CascadeProgram, StagesAreItsSteps) {
  const auto parameters = random_parameters(130, 3, BlockKind::rotor);
  const std::vector<double> deviations = sequence_deviations(*parameters, {});
  std::vector<std::int32_t> order;
  for (std::int32_t k = 0; k < 130; ++k) order.push_back(k);
  // One of its first steps comes late.
  CascadeProgram program = inverse_program(parameters->transform, deviations, order);
  std::rotate(program.steps.begin() + 4, program.steps.begin() + 5, program.steps.end());
  const CascadeStages stages = stages_of(program);
  EXPECT_LT(stages.first.size(), 43);
  EXPECT_EQ(stages.first.size() + stages.rest.size(), program.steps.size());
  std::vector<bool> changed(130);
  for (const CascadeStep& step : stages.first) {
    for (const std::int32_t slot : step.slots) {
      EXPECT_FALSE(changed[static_cast<std::size_t>(slot)]);
      changed[static_cast<std::size_t>(slot)] = true;
    }
  }
  RandomStream random(6, Purpose::synthetic);
  std::vector<float> x(130 * cascade_lanes);
  for (float& value : x) value = static_cast<float>(random.normal());
  const auto in_stages = [&](std::span<const CascadeStep>, float* columns) {
    run_steps(Isa::serial, stages.first, columns);
    run_steps(Isa::serial, stages.rest, columns);
  };
  EXPECT_EQ(run(program, x, in_stages), run(Isa::serial, program, x));
}

struct Coded {
  CodeBuffer codes;
  std::vector<std::uint8_t> decoded;
};

// Of keys rounded to the type.
Coded round_trip(const CalibratedCodec& codec, const std::vector<float>& keys, ElementType type) {
  const std::int64_t count = std::ssize(keys) / codec.dim();
  Coded result{CodeBuffer(codec.layout(), count),
               std::vector<std::uint8_t>(keys.size() * static_cast<std::size_t>(element_bytes(type)))};
  std::vector<std::uint8_t> rounded(result.decoded.size());
  store_elements(type, keys.data(), std::ssize(keys), rounded.data());
  codec.encode_tensor({1}, {rounded.data(), type, count, codec.dim()}, result.codes.view());
  codec.decode_tensor({1}, std::as_const(result.codes).view(),
                      {result.decoded.data(), type, count, codec.dim()});
  return result;
}

// Whole blocks and their ends, one centroid to more than two registers of them, widths up to eight bits.
TEST(CalibratedColumns, CodesAndDecodedKeysAreTheSameInEveryInstructionSet) {
  const std::vector<std::pair<int, int>> formats = {{1, 0}, {3, 3}, {3, 5}, {6, 6}};  // bits, centroid bits
  for (const std::int64_t dim : dims) {
    for (const auto& [bits, centroid_bits] : formats) {
      const auto parameters = random_parameters(dim, bits, BlockKind::general, centroid_bits);
      const std::int64_t count = 1 + dim % 70;
      const std::vector<float> keys = random_keys(*parameters, count, 0.5);
      const SequenceAdaptation adaptation = observe_sequence(*parameters, {keys.data(), count, dim});
      for (const CalibratedSearch& search : {CalibratedSearch{}, nearest_search}) {
        const CalibratedCodec serial(parameters, adaptation, search, {}, Isa::serial);
        for (const Isa isa : other_isas()) {
          const CalibratedCodec other(parameters, adaptation, search, {}, isa);
          for (const ElementType type : {ElementType::float16, ElementType::bfloat16, ElementType::float32}) {
            const Coded expected = round_trip(serial, keys, type);
            const Coded got = round_trip(other, keys, type);
            const std::uint8_t* codes = got.codes.view().arrays[0];
            EXPECT_TRUE(std::equal(codes, codes + got.codes.bytes(), expected.codes.view().arrays[0]))
                << isa_name(isa) << ", dim " << dim << ", " << bits << " bits, " << centroid_bits
                << " centroid bits";
            EXPECT_EQ(got.decoded, expected.decoded) << isa_name(isa) << ", dim " << dim << ", " << bits
                                                     << " bits, " << centroid_bits << " centroid bits";
          }
        }
      }
    }
  }
}

// Rows of whole cache lines that go past the caches are those that go through them.
TEST(CalibratedColumns, StreamedRowsAreTheSameInEveryInstructionSet) {
  constexpr std::int64_t dim = 96, centroid_count = 3, count = 13;
  RandomStream random(8, Purpose::synthetic);
  std::vector<float> offset_values(centroid_count * dim);
  for (float& value : offset_values) value = static_cast<float>(random.normal());
  const OffsetTables offsets(offset_values, dim);
  ScratchFloats scratch;
  float* columns = scratch.reserve(dim * cascade_lanes);
  for (std::int64_t i = 0; i < dim * cascade_lanes; ++i) columns[i] = static_cast<float>(random.normal());
  alignas(64) std::array<float, cascade_lanes> scales{};
  alignas(64) std::array<std::int32_t, cascade_lanes> centroids{};
  for (std::size_t v = 0; v < scales.size(); ++v) {
    scales[v] = 0.5F + static_cast<float>(random.uniform());
    centroids[v] = static_cast<std::int32_t>(v % centroid_count);
  }
  struct alignas(64) Line {
    std::uint8_t bytes[64];
  };
  for (const ElementType type : {ElementType::float16, ElementType::bfloat16, ElementType::float32}) {
    const auto bytes = static_cast<std::size_t>(count * dim * element_bytes(type));
    const auto rows = [&](Isa isa, bool stream) {
      std::vector<Line> written(bytes / sizeof(Line));
      write_rows(isa, columns, scales.data(), centroids.data(), offsets, stream,
                 {written.data(), type, count, dim});
      finish_streams();
      return written;
    };
    const std::vector<Line> expected = rows(Isa::serial, false);
    for (const Isa isa : other_isas()) {
      for (const bool stream : {false, true}) {
        EXPECT_EQ(std::memcmp(rows(isa, stream).data(), expected.data(), bytes), 0)
            << isa_name(isa) << ", " << element_type_name(type) << (stream ? ", streamed" : "");
      }
    }
  }
}

// None of the layers, one that leaves half of the coordinates alone, and a whole one behind it.
TEST(CalibratedColumns, CascadesOfAnyLayersAreTheSameInEveryInstructionSet) {
  for (const std::int64_t dim : {5, 33, 64, 130}) {
    for (const std::size_t layers : {0, 1, 2}) {
      const auto parameters = random_parameters(dim, 2, BlockKind::general);
      std::vector<TripleLayer>& own = parameters->transform.layers;
      own.resize(layers);
      if (layers > 0) {
        own[0].triples.resize(own[0].triples.size() / 2);
        own[0].blocks.resize(own[0].triples.size());
      }
      const std::vector<float> keys = random_keys(*parameters, 45);
      const CalibratedCodec serial(parameters, {}, nearest_search, {}, Isa::serial);
      const Coded expected = round_trip(serial, keys, ElementType::float16);
      for (const Isa isa : other_isas()) {
        const CalibratedCodec other(parameters, {}, nearest_search, {}, isa);
        EXPECT_EQ(round_trip(other, keys, ElementType::float16).decoded, expected.decoded)
            << isa_name(isa) << ", dim " << dim << ", " << layers << " layers";
      }
    }
  }
}

// Centroids far apart, close together and equal; keys between two of them, off the grid, and beyond what
// squares of float32 hold: the estimates leave out no centroid that is the nearest and bound its distance.
TEST(CentroidSearch, FindsTheFirstOfTheNearestAndEstimatesHold) {
  RandomStream random(11, Purpose::synthetic);
  std::vector<Isa> estimating_isas = other_isas();
  std::erase_if(estimating_isas, [](Isa isa) { return !CentroidGrid::estimates_with(isa); });
  struct Counts {
    std::int64_t estimated = 0, decided = 0;
  };
  std::map<Isa, Counts> counts;
  for (const std::int64_t dim : dims) {
    for (const std::int64_t count : {1, 2, 8, 9, 16, 17, 31, 32, 33}) {
      const auto n = static_cast<std::size_t>(dim);
      std::vector<float> centroids(static_cast<std::size_t>(count) * n), shift(n), x(32 * n);
      for (float& value : shift) value = static_cast<float>(random.normal());
      for (std::size_t k = 0; k < centroids.size(); ++k) {
        const bool copies = k >= n && k / n % 5 == 4;  // the one before but for the last bits
        centroids[k] = copies ? std::nextafter(centroids[k - n], k / n % 2 == 0 ? 9.0F : centroids[k - n])
                              : static_cast<float>(std::exp2(random.normal()) * random.normal());
      }
      for (std::size_t v = 0; v < 32; ++v) {
        const auto a = static_cast<std::size_t>(random.integer(count));
        const auto b = static_cast<std::size_t>(random.integer(count));
        const auto size = static_cast<float>(v == 7 ? 1e25 : v == 9 ? 50.0 : v % 3 == 0 ? 0.0 : 1.0);
        for (std::size_t i = 0; i < n; ++i) {
          x[v * n + i] = 0.5F * (centroids[a * n + i] + centroids[b * n + i]) +
                         size * static_cast<float>(random.normal());
        }
      }
      const CentroidSearch search(centroids, shift);
      const CentroidGrid grid(centroids, shift, 10.0);
      CascadeProgram program{{}, {}, std::vector<float>(n, 1.0F)};  // none
      for (std::size_t i = 0; i < n; ++i) program.slots.push_back(static_cast<std::int32_t>(i));
      ScratchFloats columns, words;
      struct Estimated {
        Isa isa;
        CentroidEstimates of;
        std::uint32_t outside = ~0U;
      };
      std::vector<Estimated> estimates;
      EXPECT_EQ(grid.keys().usable(), count <= CentroidGrid::together);
      for (const Isa isa : estimating_isas) {
        if (!grid.keys().usable()) break;
        Estimated& own = estimates.emplace_back(Estimated{isa, {}});
        auto* place = reinterpret_cast<std::int32_t*>(words.reserve(32 * grid.keys().words()));
        own.outside = load_keys(isa, {x.data(), ElementType::float32, 32, dim}, shift.data(), program,
                                &grid.keys(), columns.reserve(32 * dim), place);
        grid.estimate(isa, place, own.of);
        EXPECT_EQ(own.outside >> 7 & 1U, 1U);
      }
      for (std::size_t v = 0; v < 32; ++v) {
        std::vector<float> shifted(n);
        for (std::size_t i = 0; i < n; ++i) shifted[i] = x[v * n + i] - shift[i];
        double shortest = std::numeric_limits<double>::infinity();
        std::int32_t nearest = 0;
        for (std::int32_t k = 0; k < count; ++k) {
          const double distance =
              squared_distance(Isa::serial, shifted.data(),
                               centroids.data() + static_cast<std::size_t>(k) * n, shift.data(), dim);
          if (distance < shortest) {
            shortest = distance;
            nearest = k;
          }
        }
        EXPECT_EQ(search.nearest(Isa::serial, shifted.data()), nearest);
        for (const Isa isa : other_isas()) EXPECT_EQ(search.nearest(isa, shifted.data()), nearest);
        const double energy =
            squared_distance(Isa::serial, shifted.data(),
                             centroids.data() + static_cast<std::size_t>(nearest) * n, nullptr, dim);
        for (const auto& [isa, found, outside] : estimates) {
          if ((outside >> v & 1U) != 0) continue;
          ++counts[isa].estimated;
          const std::uint32_t candidates = found.candidates[v];
          EXPECT_EQ(search.nearest(isa, shifted.data(), candidates), nearest)
              << isa_name(isa) << ", dim " << dim << ", " << count << " centroids, key " << v;
          if ((found.decided >> v & 1U) == 0) continue;
          ++counts[isa].decided;
          EXPECT_EQ(candidates, 1U << nearest);
          EXPECT_EQ(found.nearest[v], nearest);
          EXPECT_LE(found.least[v], energy)
              << isa_name(isa) << ", dim " << dim << ", " << count << " centroids, key " << v;
          EXPECT_GE(found.most[v], energy)
              << isa_name(isa) << ", dim " << dim << ", " << count << " centroids, key " << v;
        }
      }
    }
  }
  for (const Isa isa : estimating_isas) {  // most keys need no float64
    EXPECT_GT(counts[isa].estimated, 4000) << isa_name(isa);
    EXPECT_GT(counts[isa].decided, counts[isa].estimated / 3) << isa_name(isa);
  }
}

TEST(ScaleCodes, BoundsThatLeaveOneCodeGiveTheNearest) {
  RandomStream random(12, Purpose::synthetic);
  for (const ScaleCode& code : {ScaleCode{6, 4, 0}, ScaleCode{8, 8, -15}, ScaleCode{1, 1, 3}}) {
    for (const std::int64_t dim : {1, 64, 129}) {
      const ScaleCodes codes(code, dim);
      const float middle = codes.scales()[codes.scales().size() / 2];
      std::int64_t known_count = 0;
      for (int trial = 0; trial < 200; ++trial) {
        float least[16], most[16];
        for (int v = 0; v < 16; ++v) {
          const double spread = trial % 5 == 0 ? 40.0 : 3.0;
          double energy = static_cast<double>(dim) * static_cast<double>(middle * middle) *
                          std::exp2(spread * (random.uniform() - 0.5));
          if (v < 3)
            energy = codes.energies()[static_cast<std::size_t>(random.integer(std::ssize(codes.energies())))];
          least[v] = static_cast<float>(energy * (1.0 - 1e-3 * random.uniform()));
          most[v] = static_cast<float>(energy * (1.0 + 1e-3 * random.uniform()));
          if (v == 4) least[v] = -least[v];
          if (v == 5) most[v] = std::numeric_limits<float>::infinity();
        }
        for (const Isa isa : other_isas()) {
          std::int32_t found[16];
          const std::uint32_t known = codes.nearest_between(isa, least, most, found);
          for (std::uint32_t v = 0; v < 16; ++v) {
            if ((known >> v & 1U) == 0) continue;
            ++known_count;
            EXPECT_EQ(found[v], codes.nearest(static_cast<double>(least[v]))) << least[v];
            EXPECT_EQ(found[v], codes.nearest(static_cast<double>(most[v]))) << most[v];
          }
        }
      }
      EXPECT_GE(known_count, std::ssize(other_isas()) * 200 * 16 / 2);
    }
  }
}

}  // namespace
}  // namespace rotorquant
