#pragma once
// Scalar codes of a GPU against the CPU's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "rotorquant/device/device_arrays.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::test {

// A coordinate this near to a boundary (in units of the vector's norm) may fall to either side of it.
inline constexpr double boundary_tolerance = 1e-5;
// Of N(0, 1/d) coordinates, about 2 * 1e-5 * (density of boundaries) lie that near, and only some of them
// differ.
inline constexpr double most_different = 1e-4;

struct Differences {
  std::int64_t coordinates = 0, indices = 0, norms = 0;
};

// Compares codes of x and reports every index that differs without a boundary near by.
inline void compare_codes(const ScalarCodec& codec, const Matrix& x, const CodeBuffer& expected,
                          const DeviceCodes& actual, Differences& differences) {
  const std::int64_t dim = codec.rotation().output_dim();
  const int bits = codec.codebook().bits();
  const std::int64_t code_bytes = codec.layout().arrays[0].bytes_per_vector();
  const std::vector<std::uint8_t> planes = actual.host(0);
  std::vector<std::uint8_t> wanted(static_cast<std::size_t>(dim)), got(static_cast<std::size_t>(dim));
  std::vector<bool> same_row(static_cast<std::size_t>(x.rows), true);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    differences.coordinates += dim;
    const std::uint8_t* const wanted_planes = expected.view().arrays[0] + r * code_bytes;
    const std::uint8_t* const got_planes = planes.data() + r * code_bytes;
    if (std::memcmp(wanted_planes, got_planes, static_cast<std::size_t>(code_bytes)) == 0) continue;
    same_row[static_cast<std::size_t>(r)] = false;
    unpack_planes(wanted_planes, dim, bits, wanted.data());
    unpack_planes(got_planes, dim, bits, got.data());
    Matrix unit(1, x.cols), rotated(1, dim);
    const double length = codec.scale_rule() == ScaleRule::none ? 1.0 : norm(x.row(r), x.cols);
    for (std::int64_t c = 0; c < x.cols; ++c) {
      unit.row(0)[c] = static_cast<float>(static_cast<double>(x.row(r)[c]) / length);
    }
    codec.rotation().apply(unit.view(), rotated.view());
    std::int64_t differing = 0;
    for (std::int64_t c = 0; c < dim; ++c) {
      const int a = wanted[static_cast<std::size_t>(c)], b = got[static_cast<std::size_t>(c)];
      if (a == b) continue;
      ++differing;
      ASSERT_EQ(std::abs(a - b), 1) << "row " << r << ", coordinate " << c;
      const float boundary = codec.codebook().boundaries[static_cast<std::size_t>(std::min(a, b))];
      ASSERT_NEAR(rotated.row(0)[c], boundary, boundary_tolerance) << "row " << r << ", coordinate " << c;
    }
    ASSERT_GT(differing, 0) << "row " << r << " differs in its padding";
    differences.indices += differing;
  }
  if (codec.scale_rule() == ScaleRule::none) return;
  const std::vector<std::uint8_t> norms = actual.host(1);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const std::int64_t bytes = codec.layout().arrays[1].bytes_per_vector();
    const std::uint8_t* const wanted_norm = expected.view().arrays[1] + r * bytes;
    if (std::memcmp(wanted_norm, norms.data() + r * bytes, static_cast<std::size_t>(bytes)) == 0) continue;
    ++differences.norms;
    const double a = load_norm(codec.norm_type(), wanted_norm);
    const double b = load_norm(codec.norm_type(), norms.data() + r * bytes);
    // A scale follows from the indices, of which the outer ones stand for wide cells; a norm does not.
    ASSERT_NE(codec.scale_rule(), ScaleRule::norm) << "row " << r;
    const double tolerance = codec.norm_type() == NormType::fp16 ? 2e-3 : 1e-5;
    ASSERT_NEAR(b / a, 1.0, same_row[static_cast<std::size_t>(r)] ? tolerance : 5e-2) << "row " << r;
  }
}

}  // namespace rotorquant::test
