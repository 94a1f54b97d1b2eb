// Every instruction set gives the codes, values and scores of the serial kernels, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <tuple>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/half.hpp"
#include "rotorquant/core/random.hpp"
#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
#include "rotorquant/quantizers/scalar_kernels.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"
#include "rotorquant/rotations/registry.hpp"

namespace rotorquant {
namespace {

const std::vector<std::int64_t> dims = {1,  2,  3,  4,  5,  6,  7,   8,   9,   15,  16,  17,  31,  32,  33,
                                        63, 64, 65, 66, 80, 96, 112, 127, 128, 129, 130, 192, 256, 257, 512};
// Not a multiple of the rows that kernels take together.
constexpr std::int64_t rows = 21;

struct Variant {
  std::string name;
  std::string rotation;
  RotationSettings settings;
};

std::vector<Variant> variants() {
  std::vector<Variant> list;
  for (const RotationInfo& info : rotation_registry()) list.push_back({info.name, info.name, {}});
  for (const char* name : {"givens", "rotor", "quaternion"}) {
    Variant padded{std::string(name) + "_pad", name, {}};
    padded.settings.tail = Tail::pad;
    list.push_back(padded);
  }
  Variant haar{"cascade_haar", "cascade", {}};
  haar.settings.cascade_rotors = CascadeRotors::haar;
  list.push_back(haar);
  return list;
}

// Normal numbers of very different norms, and rows that are zero, one-hot or subnormal in 16 bits.
std::vector<float> samples(std::int64_t dim) {
  RandomStream stream(7, Purpose::synthetic);
  std::vector<float> x(static_cast<std::size_t>(rows * dim));
  for (std::int64_t r = 0; r < rows; ++r) {
    const double size = std::exp2(static_cast<double>(r % 11) - 7.0);
    for (std::int64_t c = 0; c < dim; ++c)
      x[static_cast<std::size_t>(r * dim + c)] = static_cast<float>(size * stream.normal());
  }
  for (std::int64_t c = 0; c < dim; ++c) {
    x[static_cast<std::size_t>(3 * dim + c)] = 0.0F;
    x[static_cast<std::size_t>(4 * dim + c)] = c == dim / 2 ? -1.5F : 0.0F;
    x[static_cast<std::size_t>(5 * dim + c)] = c % 2 == 0 ? 0x1p-20F : -0x1.8p-22F;
  }
  return x;
}

class EveryInstructionSet : public testing::TestWithParam<std::tuple<Variant, Isa>> {};

TEST_P(EveryInstructionSet, EqualsSerial) {
  const auto& [variant, isa] = GetParam();
  if (!isa_supported(isa)) GTEST_SKIP() << isa_name(isa) << " is not supported here";
  for (const std::int64_t dim : dims) {
    RotationSettings settings = variant.settings;
    settings.isa = Isa::serial;
    const auto plain = make_rotation(variant.rotation, dim, 11, settings);
    settings.isa = isa;
    const auto fast = make_rotation(variant.rotation, dim, 11, settings);
    const std::vector<float> x = samples(dim);
    for (int bits = 1; bits <= 8; ++bits) {
      const Codebook codebook = lloyd_max_codebook(CodebookLaw::gaussian, bits, dim);
      for (const ScaleRule rule : {ScaleRule::norm, ScaleRule::mse}) {
        const ScalarCodec serial(plain, codebook, NormType::fp32, rule, Isa::serial);
        const ScalarCodec other(fast, codebook, NormType::fp32, rule, isa);
        for (const auto type : {ElementType::float16, ElementType::bfloat16, ElementType::float32}) {
          std::vector<std::uint8_t> input(static_cast<std::size_t>(rows * dim * element_bytes(type)));
          store_elements(type, x.data(), rows * dim, input.data());
          const ConstHostTensor tensor{input.data(), type, rows, dim};
          CodeBuffer expected(serial.layout(), rows), got(other.layout(), rows);
          serial.encode_tensor({}, tensor, expected.view());
          other.encode_tensor({2}, tensor, got.view());
          for (std::size_t a = 0; a < serial.layout().arrays.size(); ++a) {
            ASSERT_EQ(
                std::memcmp(expected.view().arrays[a], got.view().arrays[a],
                            static_cast<std::size_t>(rows * serial.layout().arrays[a].bytes_per_vector())),
                0)
                << "codes: dim " << dim << ", " << bits << " bits, " << element_type_name(type);
          }
          std::vector<std::uint8_t> want(input.size()), have(input.size());
          serial.decode_tensor({}, std::as_const(expected).view(), {want.data(), type, rows, dim});
          other.decode_tensor({2}, std::as_const(expected).view(), {have.data(), type, rows, dim});
          ASSERT_EQ(want, have) << "values: dim " << dim << ", " << bits << " bits, "
                                << element_type_name(type);
          if (type != ElementType::float32) continue;
          // Five queries: a group that kernels take together, and one more.
          constexpr std::int64_t queries = 5;
          std::vector<float> scores(queries * rows), other_scores(queries * rows);
          serial.score({}, {x.data(), queries, dim}, std::as_const(expected).view(),
                       {scores.data(), queries, rows});
          other.score({2}, {x.data(), queries, dim}, std::as_const(expected).view(),
                      {other_scores.data(), queries, rows});
          ASSERT_EQ(scores, other_scores) << "scores: dim " << dim << ", " << bits << " bits";
          serial.score_int8({}, {x.data(), queries, dim}, std::as_const(expected).view(),
                            {scores.data(), queries, rows});
          other.score_int8({2}, {x.data(), queries, dim}, std::as_const(expected).view(),
                           {other_scores.data(), queries, rows});
          ASSERT_EQ(scores, other_scores) << "integer scores: dim " << dim << ", " << bits << " bits";
        }
      }
    }
  }
}

// Rows that go past the caches, of centroids and of numbers, are those that go through them.
TEST_P(EveryInstructionSet, StreamsTheSameRows) {
  const auto& [variant, isa] = GetParam();
  if (!isa_supported(isa)) GTEST_SKIP() << isa_name(isa) << " is not supported here";
  RotationSettings settings = variant.settings;
  settings.isa = isa;
  constexpr std::int64_t dim = 144;
  const auto rotation = make_rotation(variant.rotation, dim, 11, settings);
  const ScalarTables tables(lloyd_max_codebook(CodebookLaw::gaussian, 3, dim));
  const std::int64_t output_dim = rotation->output_dim();
  std::vector<std::uint8_t> planes(static_cast<std::size_t>(rows * 3 * plane_bytes(output_dim)));
  for (std::size_t i = 0; i < planes.size(); ++i) planes[i] = static_cast<std::uint8_t>(37 * i);
  const std::vector<float> factors(rows, 1.5F);
  const std::vector<float> y = samples(output_dim);
  struct alignas(64) Line {
    std::uint8_t bytes[64];
  };
  for (const auto type : {ElementType::float16, ElementType::bfloat16, ElementType::float32}) {
    const auto bytes = static_cast<std::size_t>(rows * dim * element_bytes(type));
    std::vector<Line> usual(bytes / sizeof(Line) + 1), streamed(bytes / sizeof(Line) + 1);
    const bool one = rotation->apply_transpose_of_planes(planes.data(), *tables.registers, factors.data(),
                                                         false, {usual.data(), type, rows, dim});
    const bool two = rotation->apply_transpose_of_planes(planes.data(), *tables.registers, factors.data(),
                                                         true, {streamed.data(), type, rows, dim});
    finish_streams();
    EXPECT_EQ(one, two);
    EXPECT_EQ(std::memcmp(usual.data(), streamed.data(), bytes), 0) << element_type_name(type);
    const HostView<const float> turned{y.data(), rows, output_dim};
    rotation->apply_transpose_scaled(turned, factors.data(), false, {usual.data(), type, rows, dim});
    rotation->apply_transpose_scaled(turned, factors.data(), true, {streamed.data(), type, rows, dim});
    finish_streams();
    EXPECT_EQ(std::memcmp(usual.data(), streamed.data(), bytes), 0) << element_type_name(type);
  }
}

INSTANTIATE_TEST_SUITE_P(Rotations, EveryInstructionSet,
                         testing::Combine(testing::ValuesIn(variants()),
                                          testing::Values(Isa::avx2, Isa::avx512)),
                         [](const auto& instance) {
                           return std::get<0>(instance.param).name + "_" +
                                  std::string(isa_name(std::get<1>(instance.param)));
                         });

TEST(ScalarCodec, IntegerScoresErrByLessThanTwoPercent) {
  for (const std::int64_t dim : {1, 3, 64, 80, 128, 257}) {
    const std::vector<float> x = samples(dim);
    for (int bits = 1; bits <= 8; ++bits) {
      const ScalarCodec codec(make_rotation("rotor", dim, 3),
                              lloyd_max_codebook(CodebookLaw::gaussian, bits, dim));
      CodeBuffer codes(codec.layout(), rows);
      codec.encode({}, {x.data(), rows, dim}, codes.view());
      std::vector<float> exact(rows * rows), rough(rows * rows);
      codec.score({}, {x.data(), rows, dim}, std::as_const(codes).view(), {exact.data(), rows, rows});
      codec.score_int8({}, {x.data(), rows, dim}, std::as_const(codes).view(), {rough.data(), rows, rows});
      std::vector<double> norms;
      for (std::int64_t r = 0; r < rows; ++r) {
        double energy = 0.0;
        for (std::int64_t c = 0; c < dim; ++c)
          energy += std::pow(x[static_cast<std::size_t>(r * dim + c)], 2.0);
        norms.push_back(std::sqrt(energy));
      }
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t t = 0; t < rows; ++t)
          EXPECT_NEAR(rough[i * rows + t], exact[i * rows + t], 0.02 * norms[i] * norms[t] + 1e-12);
      }
      if (bits > 4) {
        EXPECT_EQ(rough, exact);
      }
    }
  }
}

// Norms as codecs store them are those of float64 sums, whatever shortcuts find them: rows of all sizes,
// among them rows whose squares leave float32's range, whose norms lie next to the middle between two 16-bit
// numbers, and zeros.
TEST(ScalarKernels, NormsAreExactInEveryInstructionSet) {
  constexpr std::int64_t count = 4001;
  for (const std::int64_t dim : {1, 3, 16, 33, 128}) {
    for (const auto type : {ElementType::float16, ElementType::bfloat16, ElementType::float32}) {
      RandomStream stream(5, Purpose::synthetic);
      std::vector<float> x(static_cast<std::size_t>(count * dim));
      for (std::size_t r = 0; r < count; ++r) {
        const double size = std::exp2(type == ElementType::float16 ? static_cast<double>(r % 30) - 20.0
                                                                   : static_cast<double>(r % 240) - 120.0);
        const double middle = 1.0 + (2.0 * static_cast<double>(r % 1024) + 1.0) * 0x1p-11;
        double energy = 0.0;
        std::vector<double> row(static_cast<std::size_t>(dim));
        for (double& value : row) energy += std::pow(value = stream.normal(), 2);
        for (std::size_t c = 0; c < row.size(); ++c)
          x[r * row.size() + c] =
              r == 7 ? 0.0F : static_cast<float>(size * middle * row[c] / std::sqrt(energy));
      }
      std::vector<std::uint8_t> bytes(x.size() * static_cast<std::size_t>(element_bytes(type)));
      store_elements(type, x.data(), count * dim, bytes.data());
      load_elements(type, bytes.data(), count * dim, x.data());
      const ConstHostTensor tensor{bytes.data(), type, count, dim};
      std::vector<float> factors(count), norms(count), exact(count);
      std::vector<std::uint8_t> halves(2 * count);
      scalar_kernels_serial.unit_factors(tensor, norms.data(), factors.data());
      scalar_kernels_serial.exact_norms(tensor, exact.data());
      scalar_kernels_serial.half_norms(tensor, norms.data(), halves.data());
      for (std::size_t r = 0; r < count; ++r) {
        double energy = 0.0;
        for (std::size_t c = 0; c < static_cast<std::size_t>(dim); ++c)
          energy += std::pow(static_cast<double>(x[r * static_cast<std::size_t>(dim) + c]), 2);
        ASSERT_NEAR(exact[r], std::sqrt(energy), 1e-7 * std::sqrt(energy));
        ASSERT_NEAR(norms[r], std::sqrt(energy), 1e-6 * std::sqrt(energy));
        ASSERT_EQ(load_norm(NormType::fp16, halves.data() + 2 * r), half_to_float(float_to_half(exact[r])));
      }
      for (const Isa isa : {Isa::avx2, Isa::avx512}) {
        if (!isa_supported(isa)) continue;
        const ScalarKernels& kernels = scalar_kernels(isa);
        std::vector<float> other_factors(count), other_norms(count), other_exact(count);
        std::vector<std::uint8_t> other_halves(2 * count);
        kernels.unit_factors(tensor, other_norms.data(), other_factors.data());
        kernels.exact_norms(tensor, other_exact.data());
        kernels.half_norms(tensor, other_norms.data(), other_halves.data());
        EXPECT_EQ(norms, other_norms) << isa_name(isa);
        EXPECT_EQ(factors, other_factors) << isa_name(isa);
        EXPECT_EQ(exact, other_exact) << isa_name(isa);
        EXPECT_EQ(halves, other_halves) << isa_name(isa);
      }
    }
  }
}

// Ties at boundaries, both zeros, and codebooks that are not symmetric, for which the search is another.
TEST(ScalarKernels, IndicesAtBoundariesAreTheDefinitions) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      Codebook codebook = lloyd_max_codebook(CodebookLaw::gaussian, bits, 64);
      if (!symmetric) {
        for (float& boundary : codebook.boundaries) boundary += 0.01F;
      }
      const ScalarTables tables(codebook);
      EXPECT_EQ(tables.registers.has_value(), symmetric && bits >= 2 && bits <= 4);
      std::vector<float> y = {0.0F, -0.0F, 1e-30F, -1e-30F};
      for (const float boundary : codebook.boundaries) {
        for (const float value :
             {boundary, -boundary, std::nextafter(boundary, 2.0F), std::nextafter(boundary, -2.0F)})
          y.push_back(value);
      }
      const auto dim = static_cast<std::int64_t>(y.size());
      const auto bytes = static_cast<std::size_t>(bits * plane_bytes(dim));
      std::vector<std::uint8_t> planes(bytes), indices(y.size()), expected(y.size());
      for (std::size_t c = 0; c < y.size(); ++c) {
        for (const float boundary : codebook.boundaries)
          expected[c] = static_cast<std::uint8_t>(expected[c] + (boundary < y[c]));
      }
      for (const Isa isa : {Isa::serial, Isa::avx2, Isa::avx512}) {
        if (!isa_supported(isa)) continue;
        scalar_kernels(isa).quantize(tables, y.data(), 1, dim, planes.data());
        unpack_planes(planes.data(), dim, bits, indices.data());
        EXPECT_EQ(indices, expected) << isa_name(isa) << ", " << bits << " bits, symmetric " << symmetric;
      }
    }
  }
}

}  // namespace
}  // namespace rotorquant
