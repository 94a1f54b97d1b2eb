// Calibrated codecs on the GPU against the CPU, whose codes and numbers are theirs bit for bit.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>

#include "rotorquant/core/error.hpp"
#include "rotorquant/device/codec_checks.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"

namespace rotorquant::test {
namespace {

using testing_support::random_keys;
using testing_support::random_parameters;

constexpr std::int64_t rows = 165;  // five tiles and a part of one

// Of the norms' product: float32 sums in another order.
constexpr double score_tolerance = 4e-6;

// A codec fitted to keys of its own, and these.
struct Calibrated {
  Matrix keys;
  std::shared_ptr<const CalibratedCodec> codec;

  Calibrated(std::int64_t dim, int bits, int centroid_bits, const CalibratedSearch& search,
             std::int64_t count = rows, const CalibratedCode& code = {})
      : keys(count, dim) {
    const auto parameters =
        random_parameters(dim, bits, bits % 2 == 0 ? BlockKind::general : BlockKind::rotor, centroid_bits, 5);
    keys.values = random_keys(*parameters, count, 0.3, 6);
    const SequenceAdaptation adaptation = observe_sequence(*parameters, keys.view());
    codec = std::make_shared<CalibratedCodec>(parameters, adaptation, search, code);
  }
};

CalibratedSearch narrow_search() {
  CalibratedSearch search;
  search.centroid_choices = 0;
  search.scale_radius = 3;
  search.descent_sweeps = 1;
  return search;
}

CalibratedCode trellis(int memory = 5) {
  return {CalibratedCodecKind::trellis, memory};
}

// Of a trellis: a part of a group of pairs, and of finalists.
CalibratedSearch odd_search() {
  CalibratedSearch search;
  search.centroid_choices = 3;
  search.scale_radius = 1;
  search.descent_sweeps = 3;
  search.trellis_candidates = 7;
  search.trellis_refinements = 5;
  return search;
}

// Pairs by their first search alone.
CalibratedSearch plain_search() {
  CalibratedSearch search = odd_search();
  search.trellis_refinements = 0;
  return search;
}

std::vector<std::uint8_t> codes_of(const CalibratedCodec& codec, const Matrix& x) {
  const CodeBuffer codes = encode(codec, x);
  return bytes_of(codec, codes);
}

void check_codes(const Calibrated& of, ElementType type) {
  const auto device = make_device_quantizer(of.codec, 0);
  Matrix x = of.keys;
  const DeviceBytes elements(to_elements(x, type));
  const DeviceCodes codes(of.codec->layout(), x.rows);
  device->encode(nullptr, {elements.data(), type, x.rows, x.cols}, codes.view());
  device->finish(nullptr);
  ASSERT_EQ(codes.host(0), codes_of(*of.codec, x)) << element_type_name(type);
}

TEST(DeviceCalibratedCodec, WritesTheCodesOfTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  for (const std::int64_t dim : {6, 37, 64, 80, 128, 200}) {
    for (const int bits : {1, 2, 3, 4, 6}) {
      for (const CalibratedSearch& search : {CalibratedSearch{}, nearest_search, narrow_search()}) {
        SCOPED_TRACE(fmt::format("{} bits, dim {}, {} centroids", bits, dim, search.centroid_choices));
        const Calibrated of(dim, bits, dim < 16 ? 2 : 5, search);
        for (const ElementType type : element_types) {
          check_codes(of, type);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(DeviceCalibratedCodec, WritesTheTrellisCodesOfTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  for (const std::int64_t dim : {5, 6, 14, 37, 64, 80, 128, 200}) {
    for (const int bits : {1, 2, 3, 4, 6}) {
      for (const int memory : {3, 5}) {
        SCOPED_TRACE(fmt::format("{} bits, dim {}, memory {}", bits, dim, memory));
        for (const CalibratedSearch& search :
             {CalibratedSearch{}, nearest_search, odd_search(), plain_search()}) {
          if (search.trellis_candidates > 10 && dim > 80 && memory == 3) continue;  // the CPU takes its time
          SCOPED_TRACE(fmt::format("{} candidates", search.trellis_candidates));
          const Calibrated of(dim, bits, dim < 16 ? 2 : 4, search, dim > 80 ? 33 : 45, trellis(memory));
          check_codes(of, memory == 5 ? ElementType::float16 : ElementType::float32);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// Errors far beyond the outermost levels, where rounding makes levels equally near.
TEST(DeviceCalibratedCodec, WritesTheTrellisCodesOfTheCpuForKeysBeyondTheScales) {
  ROTORQUANT_NEEDS_GPU();
  for (const int bits : {2, 4}) {
    for (const int memory : {3, 5}) {
      Calibrated of(64, bits, 3, CalibratedSearch{}, 48, trellis(memory));
      for (std::int64_t r = 0; r < 48; ++r) {
        const auto factor = static_cast<float>(std::exp2(static_cast<double>(r)));
        for (std::int64_t c = 0; c < 64; ++c)
          of.keys.row(r)[c] *= r % 3 == 0 || c % 7 == r % 7 ? factor : 1.0F;
      }
      SCOPED_TRACE(fmt::format("{} bits, memory {}", bits, memory));
      check_codes(of, ElementType::float32);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(DeviceCalibratedCodec, TakesAnyNumberOfRowsAndTheLargestDim) {
  ROTORQUANT_NEEDS_GPU();
  for (const std::int64_t count : {1, 31, 32, 33, 4001}) {
    SCOPED_TRACE(count);
    check_codes(Calibrated(64, 2, 0, CalibratedSearch{}, count), ElementType::float16);
    check_codes(Calibrated(48, 3, 8, nearest_search, count), ElementType::float16);
  }
  check_codes(Calibrated(max_device_dim, 2, 3, nearest_search, 70), ElementType::float32);
  for (const std::int64_t count : {1, 31, 32, 33, 1001}) {
    SCOPED_TRACE(count);
    check_codes(Calibrated(64, 3, 3, nearest_search, count, trellis()), ElementType::bfloat16);
  }
  check_codes(Calibrated(max_device_dim, 2, 3, odd_search(), 34, trellis()), ElementType::float32);
}

void check_decoder(const CalibratedCode& code) {
  for (const std::int64_t dim : {5, 6, 37, 64, 80, 128, 200, 512}) {
    for (const int bits : {1, 2, 3, 4, 6}) {
      SCOPED_TRACE(fmt::format("{} bits, dim {}", bits, dim));
      const Calibrated of(dim, bits, dim < 16 ? 2 : 5, nearest_search, rows, code);
      const auto device = make_device_quantizer(of.codec, 0);
      const CodeBuffer codes = encode(*of.codec, of.keys);
      const DeviceCodes device_codes(of.codec->layout(), codes);
      const Matrix expected = decode(*of.codec, codes);
      for (const ElementType type : element_types) {
        SCOPED_TRACE(element_type_name(type));
        const DeviceBytes out(static_cast<std::size_t>(rows * dim * element_bytes(type)));
        device->decode(nullptr, device_codes.view(), {out.data(), type, rows, dim});
        device->finish(nullptr);
        Matrix rounded = expected;
        ASSERT_EQ(out.host(), to_elements(rounded, type));
      }
      expect_scores_like_the_cpu(*of.codec, *device, codes, normal_matrix(5, dim, 33), score_tolerance);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(DeviceCalibratedCodec, DecodesAndScoresLikeTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  check_decoder({});
}

TEST(DeviceCalibratedCodec, DecodesAndScoresTrellisCodesLikeTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  check_decoder(trellis(5));
  check_decoder(trellis(3));
}

// One call of each kernel on few rows: short enough for compute-sanitizer, which watches every access.
TEST(DeviceCalibratedKernels, RunOnceEach) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  for (const auto& [search, code] :
       {std::pair{CalibratedSearch{}, CalibratedCode{}}, std::pair{nearest_search, CalibratedCode{}},
        std::pair{CalibratedSearch{}, trellis(5)}, std::pair{odd_search(), trellis(3)}}) {
    const Calibrated of(40, 3, 3, search, 45, code);
    for (const ElementType type : element_types) check_codes(of, type);
    const auto device = make_device_quantizer(of.codec, 0);
    const DeviceCodes codes(of.codec->layout(), encode(*of.codec, of.keys));
    const DeviceBytes out(4 * of.keys.values.size()), scores(4 * 45);
    Matrix query = normal_matrix(1, 40, 6);
    const DeviceBytes queries(to_elements(query, ElementType::float32));
    for (const ElementType type : element_types)
      device->decode(nullptr, codes.view(), {out.data(), type, 45, 40});
    device->score(nullptr, workspace, {reinterpret_cast<const float*>(queries.data()), 1, 40}, codes.view(),
                  {reinterpret_cast<float*>(scores.data()), 1, 45});
    device->finish(nullptr);
  }
}

TEST(DeviceCalibratedCodec, NamesWhatItRefuses) {
  ROTORQUANT_NEEDS_GPU();
  const Calibrated of(64, 2, 3, CalibratedSearch{});
  const auto device = make_device_quantizer(of.codec, 0);
  const DeviceCodes codes(of.codec->layout(), rows);
  const auto message = [&](float value) {
    Matrix x = of.keys;
    x.row(77)[5] = value;
    const DeviceBytes elements(to_elements(x, ElementType::float32));
    device->encode(nullptr, {elements.data(), ElementType::float32, rows, 64}, codes.view());
    try {
      device->finish(nullptr);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(1.0F), "");
  EXPECT_EQ(message(std::numeric_limits<float>::quiet_NaN()),
            "encode: row 77 has a value that is not finite; valid: finite values");
  EXPECT_EQ(message(3e38F).substr(0, 40), "encode: row 77 overflows float32 once tr");
  EXPECT_EQ(message(1e25F).substr(0, 40), "encode: row 77 has an error that overflo");

  const auto parameters = random_parameters(64, 2, BlockKind::general, 3, 5);
  auto fewer = std::make_shared<CalibratedParameters>(*parameters);
  fewer->centroids.resize(64 * 5);  // of the eight that three bits can name
  const auto all = std::make_shared<CalibratedCodec>(parameters, SequenceAdaptation{}, nearest_search);
  const auto some = std::make_shared<CalibratedCodec>(fewer, SequenceAdaptation{}, nearest_search);
  const DeviceCodes foreign(all->layout(), encode(*all, of.keys));
  const DeviceBytes out(4 * of.keys.values.size());
  const auto decoder = make_device_quantizer(some, 0);
  decoder->decode(nullptr, foreign.view(), {out.data(), ElementType::float32, rows, 64});
  try {
    decoder->finish(nullptr);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("names a centroid beyond the last"), std::string::npos);
  }

  CalibratedSearch wide;
  wide.trellis_candidates = 33;
  const auto refused = std::make_shared<CalibratedCodec>(parameters, SequenceAdaptation{}, wide, trellis());
  EXPECT_NE(refused->unsupported_on(Space::cuda), std::nullopt);
  EXPECT_THROW(make_device_quantizer(refused, 0), Error);
}

}  // namespace
}  // namespace rotorquant::test
