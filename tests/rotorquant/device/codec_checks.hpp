#pragma once
// What every quantizer on the GPU owes its definition on the CPU, given the same codes.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <string>

#include "rotorquant/device/device_arrays.hpp"

namespace rotorquant::test {

// Rows of many lengths, from hundredths to hundreds, of zeros and of one coordinate.
inline Matrix sample(std::int64_t rows, std::int64_t dim, std::uint64_t seed) {
  Matrix x = normal_matrix(rows, dim, seed);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto scale = static_cast<float>(std::exp2(2.0 * static_cast<double>(r % 9) - 10.0));
    for (std::int64_t c = 0; c < dim; ++c) x.row(r)[c] *= scale;
  }
  std::fill_n(x.row(7), dim, 0.0F);
  std::fill_n(x.row(8), dim, 0.0F);
  x.row(8)[dim / 2] = 3.0F;  // sparse rows have coordinates on the boundary 0
  return x;
}

// body(codec, device) for the quantizers of a spec with each of these dims and bits, until one fails.
template <typename Codec, typename Body>
void for_each_codec(const std::string& spec, std::initializer_list<std::int64_t> dims,
                    std::initializer_list<int> widths, const Body& body) {
  for (const std::int64_t dim : dims) {
    for (const int bits : widths) {
      SCOPED_TRACE(fmt::format("{} bits, dim {}", bits, dim));
      const std::shared_ptr<const Quantizer> quantizer = build(spec, bits, dim);
      if (const auto reason = quantizer->unsupported_on(Space::cuda)) {
        ASSERT_TRUE(dim == max_device_dim && spec.find("tail=pad") != std::string::npos) << *reason;
        continue;  // 512 padded to 513
      }
      const auto* const codec = dynamic_cast<const Codec*>(quantizer.get());
      ASSERT_NE(codec, nullptr);
      body(*codec, *make_device_quantizer(quantizer, 0));
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

// The name of a test of this spec.
inline std::string spec_name(const ::testing::TestParamInfo<std::string>& suite) {
  std::string name = suite.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
  return name;
}

// Decoded values of every element type.
inline void expect_decodes_like_the_cpu(const Quantizer& quantizer, const DeviceQuantizer& device,
                                        const CodeBuffer& codes) {
  const std::int64_t dim = quantizer.dim(), rows = codes.size();
  const DeviceCodes device_codes(quantizer.layout(), codes);
  const Matrix expected = decode(quantizer, codes);
  for (const ElementType type : element_types) {
    SCOPED_TRACE(element_type_name(type));
    const DeviceBytes out(static_cast<std::size_t>(rows * dim * element_bytes(type)));
    device.decode(nullptr, device_codes.view(), {out.data(), type, rows, dim});
    device.finish(nullptr);
    const Matrix actual = from_elements(out.host(), type, rows, dim);
    // One rounding of the output, and float32 sums of a few hundred terms.
    const double tolerance = type == ElementType::float32 ? 2e-6 : type == ElementType::float16 ? 6e-4 : 5e-3;
    for (std::int64_t r = 0; r < rows; ++r) {
      ASSERT_LE(distance(actual.row(r), expected.row(r), dim), tolerance * norm(expected.row(r), dim) + 1e-7)
          << "row " << r;
    }
  }
}

// tolerance: of the product of the query's and the decoded vector's norms.
inline void expect_scores_like_the_cpu(const Quantizer& quantizer, const DeviceQuantizer& device,
                                       const CodeBuffer& codes, Matrix queries, double tolerance) {
  const std::int64_t dim = quantizer.dim(), rows = codes.size();
  const DeviceCodes device_codes(quantizer.layout(), codes);
  const Matrix decoded = decode(quantizer, codes);
  Matrix wanted(queries.rows, rows);
  quantizer.score({}, queries.view(), codes.view(), wanted.view());
  const DeviceBytes device_queries(to_elements(queries, ElementType::float32));
  const DeviceBytes scores(static_cast<std::size_t>(queries.rows * rows * 4));
  DeviceWorkspace workspace;
  device.score(nullptr, workspace, {reinterpret_cast<const float*>(device_queries.data()), queries.rows, dim},
               device_codes.view(), {reinterpret_cast<float*>(scores.data()), queries.rows, rows});
  device.finish(nullptr);
  const Matrix got = from_elements(scores.host(), ElementType::float32, queries.rows, rows);
  for (std::int64_t i = 0; i < queries.rows; ++i) {
    for (std::int64_t t = 0; t < rows; ++t) {
      const double size = norm(queries.row(i), dim) * norm(decoded.row(t), dim);
      ASSERT_NEAR(got.row(i)[t], wanted.row(i)[t], tolerance * size + 1e-7) << "query " << i << ", row " << t;
    }
  }
}

// One call of each kernel on a few rows: short enough for compute-sanitizer, which watches every access.
// most_error: of decoded rows, in units of their norms.
inline void expect_runs(const Quantizer& quantizer, const DeviceQuantizer& device, ElementType type,
                        double most_error) {
  constexpr std::int64_t few = 77;
  const std::int64_t dim = quantizer.dim();
  Matrix x = normal_matrix(few, dim, 5), query = normal_matrix(1, dim, 6);
  const DeviceBytes elements(to_elements(x, type));
  const DeviceBytes queries(to_elements(query, ElementType::float32));
  const DeviceBytes out(static_cast<std::size_t>(few * dim * element_bytes(type)));
  const DeviceBytes scores(static_cast<std::size_t>(few * 4));
  const DeviceCodes codes(quantizer.layout(), few);
  DeviceWorkspace workspace;
  device.encode(nullptr, {elements.data(), type, few, dim}, codes.view());
  device.decode(nullptr, codes.view(), {out.data(), type, few, dim});
  device.score(nullptr, workspace, {reinterpret_cast<const float*>(queries.data()), 1, dim}, codes.view(),
               {reinterpret_cast<float*>(scores.data()), 1, few});
  device.finish(nullptr);
  const Matrix decoded = from_elements(out.host(), type, few, dim);
  const Matrix scored = from_elements(scores.host(), ElementType::float32, 1, few);
  for (std::int64_t r = 0; r < few; ++r) {
    const double product = inner_product(query.row(0), decoded.row(r), dim);
    const double size = norm(query.row(0), dim) * norm(decoded.row(r), dim);
    ASSERT_LT(distance(x.row(r), decoded.row(r), dim), most_error * norm(x.row(r), dim)) << "row " << r;
    ASSERT_NEAR(scored.row(0)[r], product, 4e-3 * size) << "row " << r;  // decoded in 16 bits
  }
}

inline void expect_runs_once(const std::shared_ptr<const Quantizer>& quantizer, ElementType type,
                             double most_error) {
  expect_runs(*quantizer, *make_device_quantizer(quantizer, 0), type, most_error);
}

}  // namespace rotorquant::test
