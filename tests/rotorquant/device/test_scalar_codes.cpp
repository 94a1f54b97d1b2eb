// Scalar codecs on the GPU against the CPU, which defines them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "rotorquant/core/error.hpp"
#include "rotorquant/device/code_comparison.hpp"
#include "rotorquant/device/codec_checks.hpp"

namespace rotorquant::test {
namespace {

// Of the norms' product. Tensor cores score with centroids rounded to fp16 in the best unit.
constexpr double score_tolerance = 1e-4;

constexpr std::int64_t rows = 421;  // thirteen tiles and a part of one

class DeviceScalarCodec : public ::testing::TestWithParam<std::string> {
 protected:
  template <typename Body>
  void for_each(const Body& body) {
    for_each_codec<ScalarCodec>(GetParam(),
                                {1, 5, 32, 56, 64, 80, 96, 100, 112, 128, 129, 192, 200, 256, 512},
                                {1, 2, 3, 4, 5, 6, 7, 8}, body);
  }
};

TEST_P(DeviceScalarCodec, WritesTheCodesOfTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  Differences differences;
  for_each([&](const ScalarCodec& codec, const DeviceQuantizer& device) {
    for (const ElementType type : element_types) {
      SCOPED_TRACE(element_type_name(type));
      Matrix x = sample(rows, codec.dim(), 11);
      const DeviceBytes elements(to_elements(x, type));
      const CodeBuffer expected = encode(codec, x);
      const DeviceCodes actual(codec.layout(), rows);
      device.encode(nullptr, {elements.data(), type, rows, codec.dim()}, actual.view());
      device.finish(nullptr);
      compare_codes(codec, x, expected, actual, differences);
    }
  });
  const double share =
      static_cast<double>(differences.indices) / static_cast<double>(differences.coordinates);
  std::printf("%s: %lld of %lld indices differ (%.1e), %lld scales\n", GetParam().c_str(),
              static_cast<long long>(differences.indices), static_cast<long long>(differences.coordinates),
              share, static_cast<long long>(differences.norms));
  EXPECT_LT(share, most_different);
}

TEST_P(DeviceScalarCodec, DecodesAndScoresLikeTheCpu) {
  ROTORQUANT_NEEDS_GPU();
  for_each([&](const ScalarCodec& codec, const DeviceQuantizer& device) {
    const CodeBuffer codes = encode(codec, sample(rows, codec.dim(), 12));
    expect_decodes_like_the_cpu(codec, device, codes);
    expect_scores_like_the_cpu(codec, device, codes, normal_matrix(5, codec.dim(), 13), score_tolerance);
  });
}

INSTANTIATE_TEST_SUITE_P(
    Rotations, DeviceScalarCodec,
    ::testing::Values("identity", "planarquant", "rotorquant", "rotorquant:rotation=cascade",
                      "rotorquant:rotation=cascade:cascade_rotors=haar", "isoquant", "turboquant",
                      "turboquant:rotation=hadamard", "rotorquant:tail=pad:norm=reference",
                      "planarquant:tail=pad:norm=fp32", "turboquant:rotation=hadamard:scale=mse",
                      "rotorquant:scale=eden-unbiased", "isoquant:scale=none", "rotorquant:codebook=sphere"),
    spec_name);

TEST(DeviceKernels, RunOnceEach) {
  ROTORQUANT_NEEDS_GPU();
  for (const char* const spec : {"rotorquant", "turboquant"}) {
    for (const std::int64_t dim : {40, 64, 80, 100, 112, 128, 192, 200, 256}) {
      for (const int bits : {1, 3, 4}) {
        for (const ElementType type : element_types) {
          SCOPED_TRACE(fmt::format("{}, {} bits, dim {}, {}", spec, bits, dim, element_type_name(type)));
          expect_runs_once(build(spec, bits, dim), type, 0.75);
        }
      }
    }
  }
}

TEST(DeviceEncode, TakesAnyNumberOfRows) {
  ROTORQUANT_NEEDS_GPU();
  // One of each kernel: small blocks, a whole matrix of an exact and of a padded dim.
  for (const auto& [spec, dim] :
       {std::pair{"rotorquant", 128}, std::pair{"turboquant", 80}, std::pair{"turboquant", 112}}) {
    const std::shared_ptr<const Quantizer> quantizer = build(spec, 3, dim);
    const std::unique_ptr<DeviceQuantizer> device = make_device_quantizer(quantizer, 0);
    for (const std::int64_t count : {0, 1, 2, 15, 16, 17, 31, 32, 33, 127, 128, 129, 100003}) {
      SCOPED_TRACE(fmt::format("{}, {} rows", spec, count));
      Matrix x = normal_matrix(count, dim, 3);
      const DeviceBytes elements(to_elements(x, ElementType::float16));
      const CodeBuffer expected = encode(*quantizer, x);
      const DeviceCodes actual(quantizer->layout(), count);
      device->encode(nullptr, {elements.data(), ElementType::float16, count, dim}, actual.view());
      device->finish(nullptr);
      Differences differences;
      compare_codes(dynamic_cast<const ScalarCodec&>(*quantizer), x, expected, actual, differences);
    }
  }
}

TEST(DeviceScore, TakesAnyNumberOfQueries) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  for (const std::int64_t dim : {64, 128}) {
    for (int bits = 2; bits <= 4; ++bits) {
      const std::shared_ptr<const Quantizer> quantizer = build("rotorquant", bits, dim);
      const std::unique_ptr<DeviceQuantizer> device = make_device_quantizer(quantizer, 0);
      const CodeBuffer codes = encode(*quantizer, sample(rows, dim, 14));
      const DeviceCodes device_codes(quantizer->layout(), codes);
      Matrix keys(rows, dim);
      quantizer->decode({}, codes.view(), keys.view());
      for (const std::int64_t count : {1, 4, 5, 8, 9, 17}) {
        SCOPED_TRACE(fmt::format("dim {}, {} bits, {} queries", dim, bits, count));
        Matrix queries = normal_matrix(count, dim, 15);
        const DeviceBytes device_queries(to_elements(queries, ElementType::float32));
        const DeviceBytes scores(static_cast<std::size_t>(count * rows * 4));
        device->score(nullptr, workspace, {reinterpret_cast<const float*>(device_queries.data()), count, dim},
                      device_codes.view(), {reinterpret_cast<float*>(scores.data()), count, rows});
        device->finish(nullptr);
        const Matrix got = from_elements(scores.host(), ElementType::float32, count, rows);
        for (std::int64_t i = 0; i < count; ++i) {
          for (std::int64_t t = 0; t < rows; ++t) {
            const double size = norm(queries.row(i), dim) * norm(keys.row(t), dim);
            ASSERT_NEAR(got.row(i)[t], inner_product(queries.row(i), keys.row(t), dim),
                        score_tolerance * size + 1e-7)
                << "query " << i << ", row " << t;
          }
        }
      }
    }
  }
}

TEST(DeviceKernels, ReachBeyondTwoToThe31Elements) {
  ROTORQUANT_NEEDS_GPU();
  constexpr std::int64_t dim = 128, pattern = 512, repeats = 32769, count = pattern * repeats;
  static_assert(count * dim > std::int64_t{1} << 31);
  Matrix x = normal_matrix(pattern, dim, 8);
  const std::vector<std::uint8_t> elements = to_elements(x, ElementType::float16);
  const DeviceBytes input(elements.size() * repeats), out(elements.size() * repeats);
  for (std::int64_t i = 0; i < repeats; ++i) {
    const std::size_t at = elements.size() * static_cast<std::size_t>(i);
    expect_success(cudaMemcpy(input.data() + at, elements.data(), elements.size(), cudaMemcpyHostToDevice));
  }
  const auto tail = [](const std::uint8_t* data, std::size_t bytes, std::size_t last) {
    std::vector<std::uint8_t> host(last);
    expect_success(cudaMemcpy(host.data(), data + bytes - last, last, cudaMemcpyDeviceToHost));
    return host;
  };
  for (const auto& [spec, bits] :
       {std::pair{"rotorquant", 3}, std::pair{"turboquant", 4}, std::pair{"rotorquant-prod", 3}}) {
    SCOPED_TRACE(spec);
    const std::shared_ptr<const Quantizer> quantizer = build(spec, bits, dim);
    const std::unique_ptr<DeviceQuantizer> device = make_device_quantizer(quantizer, 0);
    const DeviceCodes codes(quantizer->layout(), count);
    device->encode(nullptr, {input.data(), ElementType::float16, count, dim}, codes.view());
    device->decode(nullptr, codes.view(), {out.data(), ElementType::float16, count, dim});
    device->finish(nullptr);
    const std::size_t row_bytes = static_cast<std::size_t>(quantizer->layout().arrays[0].bytes_per_vector());
    const std::size_t last = row_bytes * pattern;
    EXPECT_EQ(tail(codes.view().arrays[0], row_bytes * count, last),
              tail(codes.view().arrays[0], last, last));
    EXPECT_EQ(tail(out.data(), elements.size() * repeats, elements.size()),
              tail(out.data(), elements.size(), elements.size()));
  }
}

TEST(DeviceEncode, NamesTheFirstRowItRefuses) {
  ROTORQUANT_NEEDS_GPU();
  for (const char* const spec : {"rotorquant", "turboquant"}) {
    const std::shared_ptr<const Quantizer> quantizer = build(spec, 3, 128);
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
    EXPECT_EQ(message(nan, nan), "encode: row 77 has a value that is not finite; valid: finite values");
    EXPECT_EQ(message(1.0F, INFINITY),
              "encode: row 200 has a value that is not finite; valid: finite values");
    EXPECT_EQ(
        message(1e6F, nan),
        "encode: row 77 has a norm outside the range of a 16-bit norm (6e-8 to 65504); valid: such rows with "
        "norm=fp32");
    EXPECT_EQ(message(1.0F, 1.0F), "");
  }
}

TEST(DeviceQuantizers, AreRefusedInOneLine) {
  ROTORQUANT_NEEDS_GPU();
  const auto message = [](const std::string& spec, std::int64_t dim) {
    try {
      make_device_quantizer(build(spec, 3, dim), 0);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message("rotorquant", 513),
            "GPU: vectors of 513 coordinates have no CUDA kernels; valid: up to 512");
  EXPECT_EQ(message("rotorquant", 512), "");
  EXPECT_THROW(make_device_quantizer(build("rotorquant", 3, 64), 1000), Error);
  DeviceWorkspace workspace;
  try {
    workspace.reserve(std::int64_t{1} << 50);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "scratch memory of the device: out of device memory; valid: fewer vectors");
  }
  EXPECT_NE(workspace.reserve(16), nullptr);
}

}  // namespace
}  // namespace rotorquant::test
