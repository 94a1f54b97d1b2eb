// Trellis codecs on the GPU against the CPU, which defines them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "rotorquant/core/error.hpp"
#include "rotorquant/device/codec_checks.hpp"
#include "rotorquant/quantizers/trellis_codec.hpp"

namespace rotorquant::test {
namespace {

// Of the norms' product. Integer scores round queries to 16 bits of their largest coordinate.
constexpr double score_tolerance = 3e-5;

// Tiles and a part of one, no multiple of a batch; more where there are fast paths.
std::int64_t rows_at(std::int64_t dim) {
  return dim == 64 || dim == 128 ? 333 : 45;
}

Matrix sample(std::int64_t dim, std::uint64_t seed) {
  Matrix x = test::sample(rows_at(dim), dim, seed);
  std::fill_n(x.row(9), dim, 1e-4F);    // below the least scale
  std::fill_n(x.row(10), dim, 200.0F);  // of the largest scale
  return x;
}

class DeviceTrellisCodec : public ::testing::TestWithParam<std::string> {
 protected:
  template <typename Body>
  void for_each(const Body& body) {
    for_each_codec<TrellisCodec>(GetParam(),
                                 {1, 3, 5, 12, 13, 19, 20, 32, 33, 64, 80, 96, 100, 128, 129, 256, 511, 512},
                                 {1, 2, 3, 4, 5, 6, 7, 8}, body);
  }
};

TEST_P(DeviceTrellisCodec, WritesTheCodesOfTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  for_each([&](const Quantizer& codec, const DeviceQuantizer& device) {
    const std::int64_t bytes = codec.layout().arrays[0].bytes_per_vector(), rows = rows_at(codec.dim());
    for (const ElementType type : element_types) {
      SCOPED_TRACE(element_type_name(type));
      Matrix x = sample(codec.dim(), 11);
      const DeviceBytes elements(to_elements(x, type));
      const CodeBuffer expected = encode(codec, x);
      const DeviceCodes actual(codec.layout(), rows);
      device.encode(nullptr, {elements.data(), type, rows, codec.dim()}, actual.view());
      device.finish(nullptr);
      const std::vector<std::uint8_t> got = actual.host(0);
      for (std::int64_t r = 0; r < rows; ++r) {
        ASSERT_EQ(std::memcmp(got.data() + r * bytes, expected.view().arrays[0] + r * bytes,
                              static_cast<std::size_t>(bytes)),
                  0)
            << "row " << r;
      }
    }
  });
}

TEST_P(DeviceTrellisCodec, DecodesAndScoresLikeTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  for_each([&](const Quantizer& codec, const DeviceQuantizer& device) {
    const CodeBuffer codes = encode(codec, sample(codec.dim(), 12));
    expect_decodes_like_the_cpu(codec, device, codes);
    Matrix queries = normal_matrix(9, codec.dim(), 13);
    std::fill_n(queries.row(3), codec.dim(), 0.0F);
    queries.row(4)[0] = 100.0F;
    expect_scores_like_the_cpu(codec, device, codes, queries, score_tolerance);
  });
}

INSTANTIATE_TEST_SUITE_P(Rotations, DeviceTrellisCodec,
                         ::testing::Values("rotorquant:codec=trellis",
                                           "rotorquant:codec=trellis:rotation=cascade",
                                           "rotorquant:codec=trellis:rotation=cascade:cascade_rotors=haar",
                                           "rotorquant:codec=trellis:memory=3", "turboquant:codec=trellis",
                                           "turboquant:codec=trellis:rotation=hadamard",
                                           "isoquant:codec=trellis:scale_offset=3"),
                         spec_name);

TEST(DeviceTrellis, TakesAnyNumberOfRows) {
  ROTORQUANT_NEEDS_GPU();
  const std::shared_ptr<const Quantizer> quantizer = build("rotorquant:codec=trellis", 3, 64);
  const std::unique_ptr<DeviceQuantizer> device = make_device_quantizer(quantizer, 0);
  for (const std::int64_t count : {0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129, 20011}) {
    Matrix x = normal_matrix(count, 64, 3);
    const DeviceBytes elements(to_elements(x, ElementType::float16));
    const CodeBuffer expected = encode(*quantizer, x);
    const DeviceCodes actual(quantizer->layout(), count);
    device->encode(nullptr, {elements.data(), ElementType::float16, count, 64}, actual.view());
    device->finish(nullptr);
    const std::vector<std::uint8_t> got = actual.host(0);
    ASSERT_TRUE(std::equal(got.begin(), got.end(), expected.view().arrays[0])) << count << " rows";
    const DeviceBytes out(static_cast<std::size_t>(2 * count * 64));
    device->decode(nullptr, actual.view(), {out.data(), ElementType::float16, count, 64});
    device->finish(nullptr);
    const Matrix decoded = from_elements(out.host(), ElementType::float16, count, 64);
    const Matrix wanted = decode(*quantizer, expected);
    for (std::int64_t r = 0; r < count; ++r) {
      ASSERT_LE(distance(decoded.row(r), wanted.row(r), 64), 6e-4 * norm(wanted.row(r), 64)) << "row " << r;
    }
  }
}

TEST(DeviceTrellis, NamesTheFirstRowItRefuses) {
  ROTORQUANT_NEEDS_GPU();
  const std::shared_ptr<const Quantizer> quantizer = build("rotorquant:codec=trellis", 3, 128);
  const std::unique_ptr<DeviceQuantizer> device = make_device_quantizer(quantizer, 0);
  const DeviceCodes codes(quantizer->layout(), 300);
  const auto message = [&](float a, float b) {
    Matrix x = normal_matrix(300, 128, 3);
    x.row(77)[5] = a;
    x.row(200)[9] = b;
    const DeviceBytes elements(to_elements(x, ElementType::bfloat16));
    device->encode(nullptr, {elements.data(), ElementType::bfloat16, 300, 128}, codes.view());
    try {
      device->finish(nullptr);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(message(nan, 1e6F), "encode: row 77 has a value that is not finite; valid: finite values");
  EXPECT_EQ(message(1.0F, INFINITY), "encode: row 200 has a value that is not finite; valid: finite values");
  EXPECT_EQ(message(1e6F, nan),
            "encode: row 77 has a root mean square above the trellis code's scales; valid: such rows with a "
            "larger scale_offset");
  EXPECT_EQ(message(1.0F, 1.0F), "");
}

}  // namespace
}  // namespace rotorquant::test
