#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/codebooks/trellis_tables.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"
#include "rotorquant/quantizers/calibrated.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"

namespace rotorquant {
namespace {

using testing_support::Coded;
using testing_support::metric_error;
using testing_support::random_keys;
using testing_support::random_parameters;
using testing_support::round_trip;

constexpr CalibratedCode trellis{CalibratedCodecKind::trellis, 5};

// Values of symbols by the trellis' definition, r holding the lowest bits of a coordinate and of the used
// ones before it.
std::vector<double> trellis_values(const std::vector<std::uint8_t>& widths, const std::vector<int>& symbols,
                                   int memory) {
  std::vector<std::size_t> used;
  for (std::size_t c = 0; c < widths.size(); ++c) {
    if (widths[c] > 0) used.push_back(c);
  }
  std::vector<double> values(widths.size(), 0.0);
  for (std::size_t i = 0; i < used.size(); ++i) {
    int r = 0;
    for (int back = memory; back >= 0; --back) {
      const std::size_t at =
          (i + static_cast<std::size_t>(memory + 1) * used.size() - static_cast<std::size_t>(back)) %
          used.size();
      r = r << 1 | (symbols[used[at]] & 1);
    }
    const TrellisTable& table = trellis_table(memory, widths[used[i]]);
    const auto entry = static_cast<std::size_t>((symbols[used[i]] >> 1) << (memory + 1) | r);
    values[used[i]] = static_cast<double>(table.levels[entry]) / table.scale;
  }
  return values;
}

// Decodes a code by the written format alone: planes, centroid, scale.
std::vector<double> decode_by_definition(const CalibratedParameters& parameters,
                                         const SequenceAdaptation& adaptation, const std::uint8_t* code,
                                         const CalibratedCode& kind = {}) {
  const auto n = static_cast<std::size_t>(parameters.dim);
  std::size_t position = 0;
  const auto read = [&](int bits) {
    int value = 0;
    for (int b = 0; b < bits; ++b, ++position) value |= ((code[position / 8] >> (position % 8)) & 1) << b;
    return value;
  };
  const std::vector<std::uint8_t> widths = sequence_widths(parameters, adaptation, code_distortions(kind));
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return widths[a] > widths[b]; });
  std::vector<int> symbols(n, 0);
  for (int plane = 0; plane < 8; ++plane) {
    for (const std::size_t c : order) {
      if (widths[c] > plane) symbols[c] |= read(1) << plane;
    }
  }
  const auto centroid = static_cast<std::size_t>(read(parameters.centroid_bits));
  const int scale_code = read(parameters.scale.bits);
  const double scale =
      std::exp2(static_cast<double>(scale_code - (1 << (parameters.scale.bits - 1)) + parameters.scale.zero) /
                parameters.scale.steps_per_octave);
  std::vector<double> y(n, 0.0);
  if (kind.kind == CalibratedCodecKind::trellis) {
    y = trellis_values(widths, symbols, kind.memory);
  } else {
    for (std::size_t c = 0; c < n; ++c) {
      if (widths[c] > 0) y[c] = lloyd_max_normal_levels(widths[c])[static_cast<std::size_t>(symbols[c])];
    }
  }
  for (std::size_t c = 0; c < n; ++c) {
    const double steps = adaptation.scale_steps.empty() ? 0.0 : adaptation.scale_steps[c];
    y[c] *= scale * static_cast<double>(parameters.deviations[c]) * std::exp2(steps / 8.0);
  }
  const std::vector<double> inverse = parameters.transform.inverse();
  std::vector<double> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = static_cast<double>(parameters.centroids[centroid * n + i]);
    if (!adaptation.shift.empty()) x[i] += static_cast<double>(half_to_float(adaptation.shift[i]));
    for (std::size_t c = 0; c < n; ++c) x[i] += inverse[i * n + c] * y[c];
  }
  return x;
}

struct Case {
  std::int64_t dim;
  int bits;
  BlockKind kind;
  int centroid_bits;
  CalibratedCode code = {};
};

class CalibratedCases : public testing::TestWithParam<Case> {};

TEST_P(CalibratedCases, DecodesTheWrittenFormatAndStoresWhatTurboQuantStores) {
  const Case& c = GetParam();
  const auto parameters = random_parameters(c.dim, c.bits, c.kind, c.centroid_bits);
  const std::vector<float> keys = random_keys(*parameters, 150, 0.5);
  const SequenceAdaptation adaptation = observe_sequence(*parameters, {keys.data(), 150, c.dim});
  const CalibratedCodec codec(parameters, adaptation, {}, c.code);
  const std::int64_t bits = c.bits * c.dim + 16;
  ASSERT_EQ(codec.layout().bytes_per_vector(), (bits + 7) / 8);
  EXPECT_EQ(codec.layout().bits_of(FieldKind::index), bits - c.centroid_bits - parameters->scale.bits);

  const Coded coded = round_trip(codec, keys);
  ASSERT_EQ(coded.codes.bytes(), 150 * codec.layout().bytes_per_vector());
  const std::uint8_t* bytes = coded.codes.view().arrays[0];
  // float32 sums of dim products of values up to a few dozen.
  const double tolerance = 2e-4;
  for (std::int64_t t = 0; t < 150; ++t) {
    const std::vector<double> expected =
        decode_by_definition(*parameters, adaptation, bytes + t * codec.layout().bytes_per_vector(), c.code);
    for (std::int64_t i = 0; i < c.dim; ++i) {
      ASSERT_NEAR(coded.decoded[static_cast<std::size_t>(t * c.dim + i)],
                  expected[static_cast<std::size_t>(i)], tolerance)
          << "key " << t << ", coordinate " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CalibratedCases,
                         testing::Values(Case{64, 2, BlockKind::general, 5}, Case{64, 3, BlockKind::rotor, 3},
                                         Case{80, 4, BlockKind::general, 0}, Case{7, 3, BlockKind::rotor, 2},
                                         Case{2, 2, BlockKind::general, 1},
                                         Case{128, 1, BlockKind::general, 6},
                                         Case{64, 2, BlockKind::general, 5, trellis},
                                         Case{64, 3, BlockKind::rotor, 3, {CalibratedCodecKind::trellis, 3}},
                                         Case{80, 4, BlockKind::general, 0, trellis},
                                         Case{7, 3, BlockKind::rotor, 2, trellis},
                                         Case{2, 2, BlockKind::general, 1, trellis},
                                         Case{128, 1, BlockKind::general, 6, trellis}));

TEST(Calibrated, MoreBitsLowerTheErrorByTheExpectedFactor) {
  double previous = 0.0;
  for (int bits = 2; bits <= 5; ++bits) {
    const auto parameters = random_parameters(64, bits, BlockKind::general);
    const std::vector<float> keys = random_keys(*parameters, 500);
    const double error =
        metric_error(*parameters, keys, round_trip(CalibratedCodec(parameters), keys).decoded);
    // One bit a coordinate is a factor of 3.1 (2 to 3 bits) to 3.8 for Lloyd-Max on Gaussians.
    if (bits > 2) {
      EXPECT_GT(previous / error, 2.7) << bits << " bits";
      EXPECT_LT(previous / error, 4.5) << bits << " bits";
    }
    previous = error;
  }
}

TEST(Calibrated, EachStageOfTheSearchLowersTheErrorThatQueriesSee) {
  const auto parameters = random_parameters(64, 3, BlockKind::general);
  const std::vector<float> keys = random_keys(*parameters, 500);
  const auto error_with = [&](CalibratedSearch search) {
    return metric_error(*parameters, keys, round_trip(CalibratedCodec(parameters, {}, search), keys).decoded);
  };
  const double nearest = error_with({0, 0, 0});
  const double scales = error_with({2, 0, 0});
  const double centroids = error_with({2, 4, 0});
  const double descent = error_with({2, 4, 2});
  EXPECT_LT(scales, 0.99 * nearest);
  EXPECT_LE(centroids, scales);
  EXPECT_LT(descent, 0.9 * centroids);  // the random metric couples coordinates strongly
}

// No index can be exchanged for a neighbour to the queries' advantage once descent has ended.
TEST(Calibrated, DescentEndsInALocalMinimum) {
  const auto parameters = random_parameters(9, 3, BlockKind::rotor);
  const std::vector<float> keys = random_keys(*parameters, 40);
  CalibratedSearch search;
  search.descent_sweeps = 100;
  const CalibratedCodec codec(parameters, {}, search);
  const Coded coded = round_trip(codec, keys);
  const auto stride = static_cast<std::size_t>(codec.layout().bytes_per_vector());
  const std::int64_t index_bits = codec.layout().bits_of(FieldKind::index);
  const std::uint8_t* bytes = coded.codes.view().arrays[0];
  for (std::size_t t = 0; t < 40; ++t) {
    const std::vector<float> key(keys.begin() + static_cast<std::ptrdiff_t>(9 * t),
                                 keys.begin() + static_cast<std::ptrdiff_t>(9 * t + 9));
    const auto error_of = [&](const std::vector<std::uint8_t>& code) {
      const std::vector<double> x = decode_by_definition(*parameters, {}, code.data());
      return metric_error(*parameters, key, std::vector<float>(x.begin(), x.end()));
    };
    const std::vector<std::uint8_t> code(bytes + t * stride, bytes + (t + 1) * stride);
    const double chosen = error_of(code);
    for (std::int64_t bit = 0; bit < index_bits; ++bit) {
      std::vector<std::uint8_t> other = code;
      other[static_cast<std::size_t>(bit / 8)] ^= static_cast<std::uint8_t>(1 << (bit % 8));
      EXPECT_GE(error_of(other), chosen * (1.0 - 1e-4)) << "key " << t << ", bit " << bit;
    }
  }
}

TEST(Calibrated, CodesDoNotDependOnThreadsOrOnTheOtherKeys) {
  const auto parameters = random_parameters(64, 2, BlockKind::general);
  const std::vector<float> keys = random_keys(*parameters, 333);
  for (const CalibratedCode& code : {CalibratedCode{}, trellis}) {
    const CalibratedCodec codec(parameters, {}, {}, code);
    const Coded one = round_trip(codec, keys);
    const Coded four = round_trip(codec, keys, {4});
    const Coded alone = round_trip(codec, {keys.begin() + 64 * 200, keys.begin() + 64 * 201});
    EXPECT_TRUE(std::equal(one.codes.view().arrays[0], one.codes.view().arrays[0] + one.codes.bytes(),
                           four.codes.view().arrays[0]));
    EXPECT_EQ(one.decoded, four.decoded);
    EXPECT_TRUE(std::equal(alone.decoded.begin(), alone.decoded.end(), one.decoded.begin() + 64 * 200));
  }
}

TEST(Calibrated, MeasuresShiftAndScalesOfASequence) {
  const auto parameters = random_parameters(64, 3, BlockKind::general, 0);
  const std::vector<float> keys = random_keys(*parameters, 600, 3.0);
  const SequenceAdaptation adaptation = observe_sequence(*parameters, {keys.data(), 600, 64});
  ASSERT_EQ(adaptation.bits(), 64 * (16 + 8));
  // The mean residual of the first 124 rows, rounded to fp16.
  for (std::size_t i = 0; i < 64; ++i) {
    double mean = 0.0;
    for (std::size_t t = 0; t < 124; ++t)
      mean += static_cast<double>(keys[t * 64 + i] - parameters->centroids[i]) / 124;
    EXPECT_NEAR(half_to_float(adaptation.shift[i]), mean, 1e-3 * std::max(1.0, std::abs(mean)));
  }
  const double plain = metric_error(*parameters, keys, round_trip(CalibratedCodec(parameters), keys).decoded);
  const double adapted =
      metric_error(*parameters, keys, round_trip(CalibratedCodec(parameters, adaptation), keys).decoded);
  EXPECT_LT(adapted, 0.5 * plain);

  // Keys with 64 times the calibrated variance in one coordinate after F: its scale follows, relative to the
  // others.
  const std::vector<double> inverse = parameters->transform.inverse();
  const std::vector<double> forward = parameters->transform.matrix();
  std::vector<float> stretched = random_keys(*parameters, 128);
  for (std::size_t t = 0; t < 128; ++t) {
    double y = 0.0;
    for (std::size_t c = 0; c < 64; ++c) {
      y += forward[5 * 64 + c] * static_cast<double>(stretched[t * 64 + c] - parameters->centroids[c]);
    }
    for (std::size_t i = 0; i < 64; ++i)
      stretched[t * 64 + i] += static_cast<float>(7.0 * inverse[i * 64 + 5] * y);
  }
  const SequenceAdaptation moved = observe_sequence(*parameters, {stretched.data(), 128, 64}, {false, true});
  EXPECT_TRUE(moved.shift.empty());
  std::vector<std::int8_t> sorted = moved.scale_steps;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(moved.scale_steps[5], sorted.back());
  EXPECT_GT(sequence_widths(*parameters, moved)[5], sequence_widths(*parameters, {})[5]);
}

TEST(Calibrated, WithoutKeysNothingIsAdapted) {
  const auto parameters = random_parameters(8, 3, BlockKind::rotor);
  const SequenceAdaptation adaptation = observe_sequence(*parameters, {nullptr, 0, 8});
  EXPECT_EQ(adaptation.shift, std::vector<std::uint16_t>(8, 0));
  EXPECT_EQ(adaptation.scale_steps, std::vector<std::int8_t>(8, 0));
  EXPECT_EQ(sequence_widths(*parameters, adaptation), sequence_widths(*parameters, {}));
}

TEST(Calibrated, InverseUndoesTheCascade) {
  for (const BlockKind kind : {BlockKind::rotor, BlockKind::general}) {
    const auto parameters = random_parameters(20, 3, kind);
    const std::vector<double> f = parameters->transform.matrix();
    const std::vector<double> g = parameters->transform.inverse();
    for (std::size_t i = 0; i < 20; ++i) {
      for (std::size_t j = 0; j < 20; ++j) {
        double sum = 0.0;
        for (std::size_t k = 0; k < 20; ++k) sum += f[i * 20 + k] * g[k * 20 + j];
        EXPECT_NEAR(sum, i == j ? 1.0 : 0.0, 1e-12);
      }
    }
  }
  EXPECT_EQ(random_parameters(20, 3, BlockKind::rotor)->transform.stored_floats(), 20 + 3 * 6 * 4);
  EXPECT_EQ(random_parameters(20, 3, BlockKind::general)->transform.stored_floats(), 3 * 6 * 9);
}

// Far outside what was calibrated the codes saturate and stay decodable.
TEST(Calibrated, SurvivesKeysOfAnySize) {
  const auto parameters = random_parameters(64, 2, BlockKind::general);
  for (const float scale : {0.0F, 1e-20F, 1e6F}) {
    std::vector<float> keys = random_keys(*parameters, 8);
    for (float& value : keys) value *= scale;
    for (const CalibratedCode& code : {CalibratedCode{}, trellis}) {
      for (const float value : round_trip(CalibratedCodec(parameters, {}, {}, code), keys).decoded)
        EXPECT_TRUE(std::isfinite(value));
    }
  }
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Calibrated, RefusesCodesThatNameACentroidBeyondTheLast) {
  const auto parameters = random_parameters(6, 3, BlockKind::general);
  parameters->centroids.resize(5 * 6);
  std::vector<float> keys = random_keys(*parameters, 70);
  for (const Isa isa : {Isa::serial, active_isa()}) {
    const CalibratedCodec codec(parameters, {}, nearest_search, {}, isa);
    Coded coded = round_trip(codec, keys);
    const auto codes = coded.codes.view();
    const std::int64_t bytes = codec.layout().arrays[0].bytes_per_vector();
    const auto bit = static_cast<std::size_t>(codec.planes().bits());
    for (std::size_t i = bit; i < bit + 3; ++i)  // 7
      codes.arrays[0][41 * bytes + static_cast<std::int64_t>(i / 8)] |=
          static_cast<std::uint8_t>(1U << i % 8);
    const std::string message = message_of([&] {
      codec.decode({1}, std::as_const(coded.codes).view(), {coded.decoded.data(), 70, 6});
    });
    EXPECT_EQ(message, "decode: row 41 names centroid 7; valid: 0..4");
  }
}

TEST(Calibrated, RefusesBadValuesInOneLine) {
  const auto good = random_parameters(6, 3, BlockKind::general);
  std::vector<float> keys = random_keys(*good, 4);
  keys[2 * 6 + 4] = std::numeric_limits<float>::quiet_NaN();
  const CalibratedCodec codec(good);
  const std::string unencodable = message_of([&] { round_trip(codec, keys); });
  EXPECT_NE(unencodable.find("row 2, coordinate 4"), std::string::npos) << unencodable;

  const auto refuses = [&](const std::function<void(CalibratedParameters&)>& spoil,
                           const std::string& named) {
    auto bad = std::make_shared<CalibratedParameters>(*good);
    spoil(*bad);
    const std::string message = message_of([&] { const CalibratedCodec spoiled(bad); });
    EXPECT_NE(message.find(named), std::string::npos) << "'" << message << "' should name " << named;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  };
  refuses([](CalibratedParameters& p) { p.deviations[3] = 0.0F; }, "deviations");
  refuses([](CalibratedParameters& p) { p.weights[1] = std::numeric_limits<float>::infinity(); }, "weights");
  refuses([](CalibratedParameters& p) { p.centroids.pop_back(); }, "centroids");
  refuses([](CalibratedParameters& p) { p.query_metric.resize(35); }, "query_metric");
  refuses([](CalibratedParameters& p) { p.bits = 9; }, "bits");
  refuses([](CalibratedParameters& p) { p.transform.delta.resize(5); }, "delta");
  refuses([](CalibratedParameters& p) { p.transform.layers[1].triples[0][2] = 6; }, "layer 1");
  refuses(
      [](CalibratedParameters& p) { p.transform.layers[0].triples[1] = p.transform.layers[0].triples[0]; },
      "layer 0");
  refuses([](CalibratedParameters& p) { p.transform.layers[2].blocks[0].fill(1.0F); }, "singular");
}

}  // namespace
}  // namespace rotorquant
