// Every instruction set gives the codes, values and scores of the serial kernels, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <tuple>

#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/half.hpp"
#include "rotorquant/core/random.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
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

// The reciprocal's correction gives the quotient's bits (scalar_kernels_avx512.cpp): unit vectors of 16-bit
// floats in two coordinates meet many pairs of significands.
TEST(ScalarKernels, UnitVectorsOfHalvesAreQuotients) {
  if (!isa_supported(Isa::avx512)) GTEST_SKIP() << "AVX-512 is not supported here";
  constexpr std::int64_t dim = 16;
  std::vector<std::uint16_t> x(1024 * dim);
  std::vector<float> unit(x.size()), expected(x.size()), norms(1024), expected_norms(1024);
  for (std::uint16_t a = 0; a < 1024; ++a) {
    for (std::uint16_t c = 0; c < dim; ++c)
      x[static_cast<std::size_t>(a * dim + c)] = static_cast<std::uint16_t>(
          0x3C00U + (c % 2 == 0 ? a : (a * 37U + c * 61U) % 1024U) + 1024U * (c % 7));
  }
  const ConstHostTensor tensor{x.data(), ElementType::float16, 1024, dim};
  scalar_kernels_avx512.normalize(tensor, true, unit.data(), norms.data());
  scalar_kernels_serial.normalize(tensor, true, expected.data(), expected_norms.data());
  EXPECT_EQ(norms, expected_norms);
  EXPECT_EQ(unit, expected);
}

}  // namespace
}  // namespace rotorquant
