// Two-stage codecs on the GPU against the CPU, which defines them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "rotorquant/core/error.hpp"
#include "rotorquant/device/code_comparison.hpp"
#include "rotorquant/device/codec_checks.hpp"
#include "rotorquant/quantizers/prod_codec.hpp"

namespace rotorquant::test {
namespace {

constexpr std::int64_t rows = 165;  // two tiles of the fast kernels and a part of one

// Of the norms' product.
constexpr double score_tolerance = 1e-4;

struct SignDifferences {
  std::int64_t signs = 0, different = 0;
};

// The device's sketch against that of what its own first stage leaves: a sign may differ where a row of S,
// brought to length 1, is as near to orthogonal to the residual as a coordinate may be to a boundary.
void check_sketches(const ProdCodec& codec, const Matrix& x, const DeviceCodes& actual,
                    SignDifferences& differences) {
  const std::int64_t dim = codec.dim(), m = codec.sketch().sketch_dim();
  CodeBuffer codes(codec.layout(), x.rows);
  for (std::size_t a = 0; a < codec.layout().arrays.size(); ++a) {
    const std::vector<std::uint8_t> bytes = actual.host(a);
    std::copy(bytes.begin(), bytes.end(), codes.view().arrays[a]);
  }
  Matrix decoded(x.rows, dim);
  codec.stage1().decode({}, std::as_const(codes).view(), decoded.view());
  const NormType type = codec.stage1().norm_type();
  const std::int64_t norm_bytes = norm_bits(type) / 8;
  const double rounding = type == NormType::fp16 ? 0x1p-11 : 0x1p-24;
  std::vector<std::uint8_t> negative(static_cast<std::size_t>(m));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    std::vector<double> residual(static_cast<std::size_t>(dim));
    double energy = 0.0;
    for (std::int64_t c = 0; c < dim; ++c) {
      const double rest = static_cast<double>(x.row(r)[c]) - static_cast<double>(decoded.row(r)[c]);
      residual[static_cast<std::size_t>(c)] = rest;
      energy += rest * rest;
    }
    const double length = std::sqrt(energy), size = norm(x.row(r), dim);
    const double kept =
        load_norm(type, std::as_const(codes).view().arrays[codec.residual_array()] + r * norm_bytes);
    ASSERT_NEAR(kept, length, 1.01 * rounding * length + 2e-6 * size + 0x1p-25) << "row " << r;
    const std::uint8_t* const signs =
        std::as_const(codes).view().arrays[codec.sign_array()] + r * plane_bytes(m);
    unpack_planes(signs, m, 1, negative.data());
    for (std::int64_t i = 0; i < m; ++i) {
      const float* const direction = codec.sketch().matrix().data() + i * dim;
      double sum = 0.0;
      for (std::int64_t c = 0; c < dim; ++c)
        sum += static_cast<double>(direction[c]) * residual[static_cast<std::size_t>(c)];
      ++differences.signs;
      if ((sum < 0.0) == (negative[static_cast<std::size_t>(i)] != 0)) continue;
      ++differences.different;
      ASSERT_LE(std::abs(sum), boundary_tolerance * norm(direction, dim) * size)
          << "row " << r << ", sign " << i;
    }
    for (std::int64_t i = m; i < 8 * plane_bytes(m); ++i)
      ASSERT_EQ(signs[i / 8] >> (i % 8) & 1, 0) << "row " << r << " has signs in its padding";
  }
}

// Encodes x on the GPU and compares both stages.
void check_encode(const ProdCodec& codec, const DeviceQuantizer& device, Matrix x, ElementType type,
                  Differences& indices, SignDifferences& signs) {
  const DeviceBytes elements(to_elements(x, type));
  const CodeBuffer expected = encode(codec.stage1(), x);
  const DeviceCodes actual(codec.layout(), x.rows);
  device.encode(nullptr, {elements.data(), type, x.rows, codec.dim()}, actual.view());
  device.finish(nullptr);
  compare_codes(codec.stage1(), x, expected, actual, indices);
  check_sketches(codec, x, actual, signs);
}

class DeviceTwoStageCodec : public ::testing::TestWithParam<std::string> {
 protected:
  template <typename Body>
  void for_each(const Body& body) {
    for_each_codec<ProdCodec>(GetParam(), {5, 40, 64, 80, 96, 100, 112, 128, 192, 512}, {2, 3, 4, 5, 8},
                              body);
  }
};

TEST_P(DeviceTwoStageCodec, WritesTheCodesOfTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  Differences indices;
  SignDifferences signs;
  for_each([&](const ProdCodec& codec, const DeviceQuantizer& device) {
    for (const ElementType type : element_types) {
      SCOPED_TRACE(element_type_name(type));
      check_encode(codec, device, sample(rows, codec.dim(), 31), type, indices, signs);
    }
  });
  std::printf("%s: %lld of %lld indices and %lld of %lld signs differ\n", GetParam().c_str(),
              static_cast<long long>(indices.indices), static_cast<long long>(indices.coordinates),
              static_cast<long long>(signs.different), static_cast<long long>(signs.signs));
  EXPECT_LT(static_cast<double>(indices.indices), most_different * static_cast<double>(indices.coordinates));
  EXPECT_LT(static_cast<double>(signs.different), most_different * static_cast<double>(signs.signs));
}

TEST_P(DeviceTwoStageCodec, DecodesAndScoresLikeTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  for_each([&](const ProdCodec& codec, const DeviceQuantizer& device) {
    const CodeBuffer codes = encode(codec, sample(rows, codec.dim(), 32));
    expect_decodes_like_the_cpu(codec, device, codes);
    expect_scores_like_the_cpu(codec, device, codes, normal_matrix(9, codec.dim(), 33), score_tolerance);
  });
}

INSTANTIATE_TEST_SUITE_P(
    Rotations, DeviceTwoStageCodec,
    ::testing::Values("rotorquant-prod", "turboquant-prod", "rotorquant-prod:rotation=cascade",
                      "turboquant-prod:rotation=hadamard:scale=mse", "turboquant-prod:qjl_dim=128",
                      "rotorquant-prod:qjl_dim=77:norm=fp32", "rotorquant-prod:tail=pad:norm=reference",
                      "turboquant-prod:scale=none"),
    spec_name);

TEST(DeviceTwoStageKernels, RunOnceEach) {
  ROTORQUANT_NEEDS_GPU();
  for (const std::int64_t dim : {40, 64, 80, 96, 112, 128, 200}) {
    for (const int bits : {2, 3, 4}) {
      for (const ElementType type : element_types) {
        SCOPED_TRACE(fmt::format("{} bits, dim {}, {}", bits, dim, element_type_name(type)));
        expect_runs_once(build("turboquant-prod", bits, dim), type, 1.2);
      }
    }
  }
}

TEST(DeviceTwoStageEncode, TakesAnyNumberOfRows) {
  ROTORQUANT_NEEDS_GPU();
  // One of each kernel: an exact and a padded dim of a width, and the general path.
  for (const std::int64_t dim : {64, 80, 96, 104, 128, 136}) {
    const std::shared_ptr<const Quantizer> quantizer = build("rotorquant-prod", 3, dim);
    const auto& codec = dynamic_cast<const ProdCodec&>(*quantizer);
    const std::unique_ptr<DeviceQuantizer> device = make_device_quantizer(quantizer, 0);
    for (const std::int64_t count : {0, 1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 40003}) {
      SCOPED_TRACE(fmt::format("dim {}, {} rows", dim, count));
      Differences indices;
      SignDifferences signs;
      check_encode(codec, *device, normal_matrix(count, dim, 3), ElementType::float16, indices, signs);
    }
  }
}

TEST(DeviceTwoStageEncode, NamesTheFirstRowItRefuses) {
  ROTORQUANT_NEEDS_GPU();
  for (const std::int64_t dim : {128, 200}) {
    const std::shared_ptr<const Quantizer> quantizer = build("turboquant-prod", 2, dim);
    const std::unique_ptr<DeviceQuantizer> device = make_device_quantizer(quantizer, 0);
    const DeviceCodes codes(quantizer->layout(), 300);
    const auto message = [&](float a, float b) {
      Matrix x = normal_matrix(300, dim, 3);
      x.row(77)[5] = a;
      x.row(200)[9] = b;
      const DeviceBytes elements(to_elements(x, ElementType::bfloat16));
      device->encode(nullptr, {elements.data(), ElementType::bfloat16, 300, dim}, codes.view());
      try {
        device->finish(nullptr);
      } catch (const Error& error) {
        return std::string(error.what());
      }
      return std::string();
    };
    const float nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(message(nan, nan), "encode: row 77 has a value that is not finite; valid: finite values");
    EXPECT_EQ(
        message(1e6F, nan),
        "encode: row 77 has a norm outside the range of a 16-bit norm (6e-8 to 65504); valid: such rows with "
        "norm=fp32");
    EXPECT_EQ(message(1.0F, 1.0F), "");
  }
}

}  // namespace
}  // namespace rotorquant::test
