// What every registered quantizer promises, whatever it does inside: see quantizers/quantizer.hpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/error.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

const std::vector<std::int64_t> all_dims = {1, 2, 5, 7, 64, 257};

// Every name, and the options that change what is stored or computed.
std::vector<std::string> all_specs() {
  std::vector<std::string> specs;
  for (const QuantizerInfo& info : quantizer_registry()) specs.push_back(info.name);
  const std::vector<std::string> options = {"rotorquant:tail=pad:norm=reference",
                                            "rotorquant:rotor_sampling=haar:codebook=sphere",
                                            "rotorquant:rotation=cascade",
                                            "rotorquant-prod:qjl_dim=33:tail=pad",
                                            "isoquant:mode=fast:tail=pad",
                                            "planarquant:tail=pad:norm=fp32",
                                            "turboquant:rotation=hadamard",
                                            "turboquant:scale=mse",
                                            "turboquant:scale=eden-unbiased",
                                            "turboquant:scale=none",
                                            "turboquant-prod:rotation=hadamard:norm=fp32",
                                            "identity:codec=trellis",
                                            "planarquant:codec=trellis:memory=3",
                                            "rotorquant:rotation=cascade:codec=trellis",
                                            "isoquant:codec=trellis:scale_offset=-1",
                                            "turboquant:codec=trellis",
                                            "turboquant:rotation=hadamard:codec=trellis:memory=3",
                                            "rabitq:rotation=hadamard:norm=fp32",
                                            "kivi:group=5"};
  specs.insert(specs.end(), options.begin(), options.end());
  return specs;
}

const QuantizerInfo& info_of(const std::string& spec) {
  return find_quantizer(QuantizerSpec::parse(spec).name);
}

// 4 bits, or the width of a format that has one alone.
int usual_bits(const std::string& spec) {
  return std::clamp(4, info_of(spec).min_bits, info_of(spec).max_bits);
}

bool is_trellis(const std::string& spec) {
  return spec.find("codec=trellis") != std::string::npos;
}

bool stores_norms_in(const Quantizer& quantizer, std::int64_t bits) {
  return quantizer.layout().bits_of(FieldKind::norm) + quantizer.layout().bits_of(FieldKind::scale) == bits;
}

// Whether a row whose entries all are `entry` lies outside what this code's 16-bit numbers can hold.
bool refuses(const std::string& spec, const Quantizer& quantizer, float entry) {
  const std::string name = QuantizerSpec::parse(spec).name;
  if (name == "q4_0" || name == "q8_0" || name == "fp8-e4m3")
    return false;  // scales are fractions; saturates
  // These end at the top alone: what lies below decodes to zeros or to a zero point.
  if (is_trellis(spec) || name == "kivi" || name == "identity16") return entry > 1.0F;
  return stores_norms_in(quantizer, 16);
}

// The reference's norms are at least 1e-8, and without norms a vector is decoded as a unit one.
bool decodes_zero_to_zero(const std::string& spec) {
  return spec != "rotorquant-trivector" && spec.find("norm=reference") == std::string::npos &&
         spec.find("scale=none") == std::string::npos;
}

class EveryQuantizer : public ::testing::TestWithParam<std::string> {
 protected:
  template <typename Body>
  void for_each(const std::vector<std::int64_t>& dims, const Body& body) {
    const QuantizerInfo& info = info_of(GetParam());
    for (const std::int64_t given : dims) {
      const std::int64_t dim = (given + info.dim_multiple - 1) / info.dim_multiple * info.dim_multiple;
      for (int bits = info.min_bits; bits <= info.max_bits; ++bits) {
        SCOPED_TRACE(std::to_string(bits) + " bits, dim " + std::to_string(dim));
        body(*build(GetParam(), bits, dim));
      }
    }
  }
};

TEST_P(EveryQuantizer, StoresTheBitsOfItsLayout) {
  for_each(all_dims, [](const Quantizer& quantizer) {
    const CodeLayout& layout = quantizer.layout();
    const Matrix x = normal_matrix(3, quantizer.dim(), 1);
    const CodeBuffer codes = encode(quantizer, x);
    std::int64_t bits = 0;
    for (const FieldKind kind :
         {FieldKind::index, FieldKind::norm, FieldKind::sign, FieldKind::residual_norm, FieldKind::scale,
          FieldKind::zero, FieldKind::centroid, FieldKind::padding}) {
      bits += layout.bits_of(kind);
    }
    EXPECT_EQ(3 * bits, 8 * codes.bytes());
    EXPECT_EQ(3 * layout.bytes_per_vector(), codes.bytes());
    EXPECT_EQ(static_cast<std::int64_t>(bytes_of(quantizer, codes).size()), codes.bytes());
    for (const CodeArray& array : layout.arrays) {
      std::int64_t array_bits = 0;
      for (const CodeField& field : array.fields) array_bits += field.bits;
      EXPECT_EQ(array_bits % 8, 0) << array.name;
    }
  });
}

TEST_P(EveryQuantizer, DecodesTheZeroVectorToZero) {
  for_each(all_dims, [](const Quantizer& quantizer) {
    const Matrix zero(2, quantizer.dim());
    const Matrix decoded = decode(quantizer, encode(quantizer, zero));
    if (decodes_zero_to_zero(GetParam())) {
      for (const float v : decoded.values) EXPECT_EQ(v, 0.0F);
    } else {
      for (const float v : decoded.values) EXPECT_TRUE(std::isfinite(v));
    }
  });
}

TEST_P(EveryQuantizer, ScoresAreInnerProductsWithTheDecodedVectors) {
  constexpr double rounding = 2e-5;  // of ||q|| ||x^||: float32 sums of a few hundred terms
  for_each(all_dims, [](const Quantizer& quantizer) {
    const Matrix x = normal_matrix(70, quantizer.dim(), 2);
    const Matrix queries = normal_matrix(3, quantizer.dim(), 3);
    const CodeBuffer codes = encode(quantizer, x);
    const Matrix decoded = decode(quantizer, codes);
    Matrix scores(queries.rows, x.rows);
    quantizer.score({}, queries.view(), codes.view(), scores.view());
    for (std::int64_t i = 0; i < queries.rows; ++i) {
      for (std::int64_t t = 0; t < x.rows; ++t) {
        const double expected = inner_product(queries.row(i), decoded.row(t), x.cols);
        const double scale =
            norm(queries.row(i), x.cols) * (norm(decoded.row(t), x.cols) + norm(x.row(t), x.cols));
        ASSERT_NEAR(scores.row(i)[t], expected, rounding * scale) << i << " " << t;
      }
    }
  });
}

TEST_P(EveryQuantizer, WeightedSumsAreSumsOfTheDecodedVectors) {
  constexpr double rounding = 2e-5;
  for_each(all_dims, [](const Quantizer& quantizer) {
    const Matrix x = normal_matrix(70, quantizer.dim(), 2);
    const Matrix weights = normal_matrix(2, x.rows, 4);
    const CodeBuffer codes = encode(quantizer, x);
    const Matrix decoded = decode(quantizer, codes);
    Matrix sums(weights.rows, x.cols);
    quantizer.weighted_sum({}, weights.view(), codes.view(), sums.view());
    for (std::int64_t i = 0; i < weights.rows; ++i) {
      double scale = 0.0;
      std::vector<double> expected(static_cast<std::size_t>(x.cols), 0.0);
      for (std::int64_t t = 0; t < x.rows; ++t) {
        const double weight = weights.row(i)[t];
        scale += std::abs(weight) * norm(decoded.row(t), x.cols);
        for (std::int64_t c = 0; c < x.cols; ++c) {
          expected[static_cast<std::size_t>(c)] += weight * static_cast<double>(decoded.row(t)[c]);
        }
      }
      for (std::int64_t c = 0; c < x.cols; ++c) {
        ASSERT_NEAR(sums.row(i)[c], expected[static_cast<std::size_t>(c)], rounding * scale);
      }
    }
  });
}

TEST_P(EveryQuantizer, GivesTheSameBitsForAnyThreadsAndBatches) {
  for_each({5, 64, 67}, [](const Quantizer& quantizer) {
    const Matrix x = normal_matrix(200, quantizer.dim(), 5);
    const Matrix queries = normal_matrix(3, quantizer.dim(), 6);
    const Matrix weights = normal_matrix(3, x.rows, 7);
    const CodeBuffer codes = encode(quantizer, x);
    const std::vector<std::uint8_t> bytes = bytes_of(quantizer, codes);
    EXPECT_EQ(bytes, bytes_of(quantizer, encode(quantizer, x, {2})));

    CodeBuffer one_by_one(quantizer.layout());
    for (std::int64_t r = 0; r < x.rows; ++r) {
      quantizer.encode({}, x.view().row_range(r, 1), one_by_one.append(1));
    }
    EXPECT_EQ(bytes, bytes_of(quantizer, one_by_one));

    EXPECT_EQ(decode(quantizer, codes).values, decode(quantizer, codes, {2}).values);
    const auto scored = [&](int threads) {
      Matrix scores(queries.rows, x.rows);
      quantizer.score({threads}, queries.view(), codes.view(), scores.view());
      return scores.values;
    };
    EXPECT_EQ(scored(1), scored(2));
    const auto summed = [&](int threads) {
      Matrix sums(weights.rows, x.cols);
      quantizer.weighted_sum({threads}, weights.view(), codes.view(), sums.view());
      return sums.values;
    };
    EXPECT_EQ(summed(1), summed(2));
  });
}

TEST_P(EveryQuantizer, ReconstructsBetterThanNothing) {
  const auto quantizer = build(GetParam(), usual_bits(GetParam()), 64);
  Matrix x = unit_vectors(50, 64, 8);
  const Matrix decoded = decode(*quantizer, encode(*quantizer, x));
  double squares = 0.0;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const double gap = distance(x.row(r), decoded.row(r), 64);
    squares += gap * gap / 50.0;
  }
  EXPECT_LT(squares, 0.1);
}

// The row is counted over the whole input, not within the block that a thread works on.
TEST_P(EveryQuantizer, NamesTheRowThatIsNotFinite) {
  const auto quantizer = build(GetParam(), usual_bits(GetParam()), 64);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const int threads : {1, 2}) {
      Matrix x = normal_matrix(200, 64, 9);
      x.row(133)[17] = bad;
      x.row(190)[3] = bad;
      try {
        encode(*quantizer, x, {threads});
        ADD_FAILURE() << bad << " was accepted";
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("row 133"), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("17"), std::string::npos) << error.what();
      }
    }
  }
}

TEST_P(EveryQuantizer, NamesTheRowWhoseNormDoesNotFit) {
  const auto quantizer = build(GetParam(), usual_bits(GetParam()), 64);
  for (const float entry : {1e5F, 1e-9F}) {
    Matrix x = normal_matrix(70, 64, 9);
    std::fill_n(x.row(66), 64, entry);
    if (!refuses(GetParam(), *quantizer, entry)) {
      EXPECT_NO_THROW(encode(*quantizer, x)) << entry;
      continue;
    }
    try {
      encode(*quantizer, x);
      ADD_FAILURE() << entry << " was accepted";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("row 66"), std::string::npos) << error.what();
    }
  }
}

TEST_P(EveryQuantizer, AcceptsNoVectorsAtAll) {
  const auto quantizer = build(GetParam(), usual_bits(GetParam()), 64);
  const Matrix none(0, 64);
  const CodeBuffer codes = encode(*quantizer, none);
  EXPECT_EQ(codes.bytes(), 0);
  EXPECT_EQ(decode(*quantizer, codes).rows, 0);
}

TEST_P(EveryQuantizer, TheSeedChangesTheCodesWhereTheRegistrySaysSo) {
  const Matrix x = normal_matrix(20, 64, 7);
  const auto bytes_with = [&](std::uint64_t seed) {
    const auto quantizer = build(GetParam(), usual_bits(GetParam()), 64, seed);
    return bytes_of(*quantizer, encode(*quantizer, x));
  };
  EXPECT_EQ(bytes_with(1) != bytes_with(2), info_of(GetParam()).seeded);
}

TEST_P(EveryQuantizer, SaysWhereItRuns) {
  const auto quantizer = build(GetParam(), usual_bits(GetParam()), 64);
  EXPECT_EQ(quantizer->unsupported_on(Space::cpu), std::nullopt);
  EXPECT_GE(quantizer->stored_floats(), 0);
}

std::string test_name(const ::testing::TestParamInfo<std::string>& spec) {
  std::string name = spec.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Registry, EveryQuantizer, ::testing::ValuesIn(all_specs()), test_name);

}  // namespace
}  // namespace rotorquant::test
