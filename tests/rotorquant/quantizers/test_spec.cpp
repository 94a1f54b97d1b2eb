// How quantizers are written, and what is said about what is written wrongly.
#include <gtest/gtest.h>

#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/prod_codec.hpp"
#include "rotorquant/quantizers/spec.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

TEST(QuantizerSpec, ReadsANameAndParameters) {
  const QuantizerSpec spec = QuantizerSpec::parse("turboquant:scale=mse:rotation=hadamard");
  EXPECT_EQ(spec.name, "turboquant");
  EXPECT_EQ(spec.parameters.at("scale"), "mse");
  EXPECT_EQ(spec.parameters.at("rotation"), "hadamard");
  EXPECT_EQ(spec.text(), "turboquant:rotation=hadamard:scale=mse");
  EXPECT_EQ(QuantizerSpec::parse("q8_0").text(), "q8_0");
}

struct Refusal {
  std::string spec;
  int bits;
  std::vector<std::string> named;  // words that the message must hold
};

class Refused : public ::testing::TestWithParam<Refusal> {};

TEST_P(Refused, WithALineThatSaysWhatIsWrongAndWhatIsValid) {
  try {
    build(GetParam().spec, GetParam().bits, 64);
    FAIL() << GetParam().spec << " was accepted";
  } catch (const UsageError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos);
    for (const std::string& word : GetParam().named) {
      EXPECT_NE(message.find(word), std::string::npos) << "'" << word << "' in: " << message;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Specs, Refused,
    ::testing::Values(
        Refusal{"rotoquant", 3, {"'rotoquant'", "did you mean 'rotorquant'?"}},
        Refusal{"turboquant-prd", 3, {"did you mean 'turboquant-prod'?"}}, Refusal{"", 3, {"empty"}},
        Refusal{":scale=mse", 3, {"empty"}},
        Refusal{"turboquant:sclae=mse", 3, {"'sclae'", "did you mean 'scale'?", "valid: rotation"}},
        Refusal{"turboquant:tail=pad", 3, {"no parameter 'tail'"}},
        Refusal{"rotorquant-trivector:tail=pad", 3, {"no parameter 'tail'", "valid: none"}},
        Refusal{"turboquant:scale", 3, {"'scale'", "key=value"}},
        Refusal{"turboquant:=mse", 3, {"key=value"}}, Refusal{"turboquant:scale=", 3, {"key=value"}},
        Refusal{"turboquant:", 3, {"key=value"}},
        Refusal{"turboquant:scale=mse:scale=norm", 3, {"'scale'", "twice"}},
        Refusal{"turboquant:scale=max", 3, {"scale = 'max'", "valid: norm|mse"}},
        Refusal{"turboquant:rotation=rotor", 3, {"rotation = 'rotor'", "valid: haar|hadamard"}},
        Refusal{"rotorquant:norm=fp8", 3, {"norm = 'fp8'", "fp16|fp32|reference"}},
        Refusal{"rotorquant:grade_bits=2/2", 3, {"grade_bits = '2/2'", "valid:"}},
        Refusal{"rotorquant:grade_bits=0/0/2/0", 3, {"grade_bits", "vector"}},
        Refusal{"rotorquant:grade_bits=0/9/0/0", 3, {"grade_bits"}},
        Refusal{"rotorquant-prod:qjl_dim=x", 3, {"qjl_dim = 'x'", "integer from"}},
        Refusal{"rotorquant-prod:qjl_dim=-1", 3, {"qjl_dim = '-1'"}},
        Refusal{"rotorquant-prod:qjl_dim=1000000", 3, {"qjl_dim", "65536"}},
        Refusal{"rotorquant-prod:qjl_dim=3.5", 3, {"qjl_dim = '3.5'"}},
        Refusal{"turboquant:codec=tcq", 3, {"codec = 'tcq'", "valid: lloyd-max|trellis"}},
        Refusal{"turboquant:codec=trellis:memory=4", 3, {"memory = '4'", "valid: 3|5"}},
        Refusal{"turboquant:codec=trellis:norm=fp32", 3, {"norm = 'fp32'", "codec=trellis", "valid:"}},
        Refusal{"turboquant:codec=trellis:codebook=sphere", 3, {"codebook = 'sphere'", "valid:"}},
        Refusal{"turboquant:codec=trellis:scale=norm", 3, {"scale = 'norm'", "valid: mse"}},
        Refusal{"isoquant:codec=trellis:tail=pad", 3, {"tail = 'pad'", "valid: plane"}},
        Refusal{"rotorquant:codec=trellis:grade_bits=0/2/0/0", 3, {"grade_bits = '0/2/0/0'"}},
        Refusal{"turboquant:codec=trellis:scale_offset=101", 3, {"scale_offset = '101'", "-100 to 100"}},
        Refusal{"turboquant:memory=3", 3, {"memory = '3'", "codec=trellis"}},
        Refusal{"turboquant:scale_offset=1", 3, {"scale_offset = '1'", "codec=trellis"}},
        Refusal{"turboquant-prod:codec=trellis", 3, {"no parameter 'codec'"}},
        Refusal{"rotorquant", 0, {"bits = 0", "valid: 1 to 8"}}, Refusal{"q4_0", 3, {"bits = 3", "valid: 4"}},
        Refusal{"identity16", 8, {"bits = 8", "valid: 16"}},
        Refusal{"kivi:group=0", 3, {"group = '0'", "1 to 1024"}}, Refusal{"rotorquant", 9, {"bits = 9"}},
        Refusal{"rotorquant", -3, {"bits = -3"}},
        Refusal{"rotorquant-prod", 1, {"bits = 1", "valid: 2 to 8"}},
        Refusal{"turboquant-prod", 1, {"bits = 1", "valid: 2 to 8"}},
        Refusal{"turboquant-prod", 0, {"bits = 0"}}, Refusal{"turboquant-prod", 9, {"bits = 9"}}));

TEST(MakeQuantizer, RefusesADimBelowOne) {
  EXPECT_THROW(build("rotorquant", 3, 0), Error);
  EXPECT_THROW(build("rotorquant", 3, -4), Error);
}

TEST(MakeQuantizer, RefusesADimThatAFormatCannotHave) {
  try {
    build("q8_0", 8, 80);
    ADD_FAILURE() << "80 was accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "quantizer 'q8_0': dim = 80; valid: multiples of 32");
  }
}

TEST(MakeQuantizer, TakesTheParametersItIsGiven) {
  EXPECT_EQ(build("rotorquant:grade_bits=0/2/0/0", 4, 66)->layout().bits_of(FieldKind::index), 132);
  EXPECT_EQ(build("rotorquant", 4, 66)->layout().bits_of(FieldKind::index), 264);
  EXPECT_EQ(build("rotorquant:tail=pad", 3, 128)->layout().bits_of(FieldKind::index), 3 * 129);
  EXPECT_EQ(build("rotorquant", 3, 128)->layout().bits_of(FieldKind::index), 3 * 128);
  EXPECT_EQ(build("turboquant:norm=fp32", 3, 64)->layout().bits_of(FieldKind::norm), 32);
  EXPECT_EQ(build("turboquant", 3, 64)->layout().bits_of(FieldKind::norm), 16);
  EXPECT_EQ(build("turboquant:scale=mse", 3, 64)->layout().bits_of(FieldKind::scale), 16);
  EXPECT_EQ(build("turboquant:scale=none", 3, 64)->layout().bytes_per_vector(), 24);
  EXPECT_EQ(build("turboquant-prod", 3, 64)->layout().bits_of(FieldKind::sign), 64);
  EXPECT_EQ(build("turboquant-prod:qjl_dim=32", 3, 64)->layout().bits_of(FieldKind::sign), 32);
}

// (b - 1) d + m + 32 bits a vector with 16-bit norms.
TEST(MakeQuantizer, TwoStagesStoreTheStatedBits) {
  for (int bits = 2; bits <= 8; ++bits) {
    EXPECT_EQ(8 * build("turboquant-prod", bits, 128)->layout().bytes_per_vector(),
              (bits - 1) * 128 + 128 + 32);
    EXPECT_EQ(8 * build("turboquant", bits, 128)->layout().bytes_per_vector(), bits * 128 + 16);
  }
}

// d = 128 has 43 groups; their trivectors of max(b - 1, 1) bits are stored beside 129 vector indices.
TEST(MakeQuantizer, TrivectorsAreCharged) {
  for (int bits = 1; bits <= 8; ++bits) {
    const CodeLayout layout = build("rotorquant-trivector", bits, 128)->layout();
    EXPECT_EQ(layout.bits_of(FieldKind::index), bits * 129 + std::max(bits - 1, 1) * 43);
    EXPECT_EQ(layout.bits_of(FieldKind::norm), 32);
    const CodeLayout plain = build("rotorquant:tail=pad:norm=reference", bits, 128)->layout();
    EXPECT_EQ(layout.bytes_per_vector(), plain.bytes_per_vector() + std::max(bits - 1, 1) * 6);
  }
}

TEST(MakeQuantizer, TheTrivectorDoesNotAffectTheReconstruction) {
  const Matrix x = normal_matrix(20, 128, 1);
  const auto with = build("rotorquant-trivector", 3, 128, 5);
  const auto without = build("rotorquant:tail=pad:norm=reference", 3, 128, 5);
  EXPECT_EQ(decode(*with, encode(*with, x)).values, decode(*without, encode(*without, x)).values);
}

TEST(ValueSpec, IsThePlainFormWithTheParametersItKnows) {
  const auto values = [](const std::string& keys) { return value_spec(QuantizerSpec::parse(keys)).text(); };
  EXPECT_EQ(values("turboquant-prod:qjl_dim=32:rotation=hadamard"), "turboquant:rotation=hadamard");
  EXPECT_EQ(values("rotorquant-prod:tail=pad"), "rotorquant:tail=pad");
  EXPECT_EQ(values("turboquant:scale=mse"), "turboquant:scale=mse");
}

TEST(Registry, DescribesEveryQuantizer) {
  for (const QuantizerInfo& info : quantizer_registry()) {
    EXPECT_FALSE(info.summary.empty()) << info.name;
    EXPECT_FALSE(info.source.empty()) << info.name;
    EXPECT_NO_THROW(find_quantizer(info.value_name)) << info.name;
    for (const ParameterInfo& parameter : info.parameters) {
      EXPECT_FALSE(parameter.values.empty() || parameter.default_value.empty() || parameter.meaning.empty())
          << info.name << ": " << parameter.key;
    }
  }
}

}  // namespace
}  // namespace rotorquant::test
