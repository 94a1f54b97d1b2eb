#include <gtest/gtest.h>

#include "evaluation/sweep/messages.hpp"
#include "evaluation/sweep/tensor_method.hpp"
#include "rotorquant/quantizers/registry.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::expect_contains;
using testing::usage_message;

std::string values_for(const std::string& keys) {
  return values_of(QuantizerSpec::parse(keys)).text();
}

TEST(TensorSpecification, DefaultsComeFromTheSweep) {
  const TensorSpec spec = parse_tensor_spec("turboquant:rotation=hadamard", 3, 4);
  EXPECT_EQ(spec.quantizer.text(), "turboquant:rotation=hadamard");
  EXPECT_EQ(spec.bits, 3);
  EXPECT_EQ(spec.sinks, 4);
  EXPECT_EQ(spec.centering, Centering::none);
  EXPECT_FALSE(spec.calibrated());
}

TEST(TensorSpecification, ParametersOfTheSequenceAreTakenOut) {
  const TensorSpec spec =
      parse_tensor_spec("turboquant:bits=5:center=online:rotation=hadamard:scale=mse:sinks=7", 3, 4);
  EXPECT_EQ(spec.quantizer.text(), "turboquant:rotation=hadamard:scale=mse");
  EXPECT_EQ(spec.bits, 5);
  EXPECT_EQ(spec.sinks, 7);
  EXPECT_EQ(spec.centering, Centering::online);
}

TEST(TensorSpecification, Centerings) {
  EXPECT_EQ(parse_tensor_spec("turboquant:center=none", 3, 0).centering, Centering::none);
  EXPECT_EQ(parse_tensor_spec("turboquant:center=online", 3, 0).centering, Centering::online);
  EXPECT_EQ(parse_tensor_spec("turboquant:center=channel-mean", 3, 0).centering, Centering::channel_mean);
  expect_contains(usage_message([] { parse_tensor_spec("turboquant:center=mean", 3, 0); }),
                  "center = 'mean'; valid: none|online|channel-mean");
}

TEST(TensorSpecification, SinksOfZeroOverrideTheSweeps) {
  EXPECT_EQ(parse_tensor_spec("turboquant:sinks=0", 3, 4).sinks, 0);
}

TEST(TensorSpecification, OneNumberEach) {
  for (const char* text :
       {"bits=0", "bits=9", "bits=2-4", "bits=x", "bits=", "sinks=-1", "sinks=0-4", "sinks=x"}) {
    const std::string message =
        usage_message([&] { parse_tensor_spec("turboquant:" + std::string(text), 3, 0); });
    expect_contains(message, "turboquant");
  }
  expect_contains(usage_message([] { parse_tensor_spec("turboquant:bits=2-4", 3, 0); }),
                  "quantizer 'turboquant': bits '2-4': valid: one whole number from 1 to 8");
}

TEST(TensorSpecification, FixedWidths) {
  EXPECT_TRUE(fixes_width(QuantizerSpec::parse("turboquant:bits=2")));
  EXPECT_FALSE(fixes_width(QuantizerSpec::parse("turboquant:sinks=2")));
}

TEST(TensorSpecification, LeastBits) {
  EXPECT_EQ(least_bits(parse_tensor_spec("turboquant", 3, 0)), 1);
  EXPECT_EQ(least_bits(parse_tensor_spec("turboquant-prod", 3, 0)), 2);
  EXPECT_EQ(least_bits(parse_tensor_spec("rotorquant-calibrated", 3, 0)), 1);
}

TEST(TensorSpecification, ValuesThatGoWithKeys) {
  EXPECT_EQ(values_for("turboquant"), "turboquant");
  EXPECT_EQ(values_for("turboquant:rotation=hadamard:scale=mse"), "turboquant:rotation=hadamard:scale=mse");
  // The sketch of inner products is for keys; values keep the rotation.
  EXPECT_EQ(values_for("turboquant-prod"), "turboquant");
  EXPECT_EQ(values_for("turboquant-prod:qjl_dim=32:rotation=hadamard"), "turboquant:rotation=hadamard");
  EXPECT_EQ(values_for("rotorquant-prod:tail=pad"), "rotorquant:tail=pad");
  EXPECT_EQ(values_for("rotorquant-calibrated"), "rotorquant:rotation=cascade:scale=mse");
  EXPECT_EQ(values_for("rotorquant-calibrated:adapt=none:search=nearest"),
            "rotorquant:rotation=cascade:scale=mse");
}

TEST(TensorSpecification, ValuesShareWidthAndSinksButNotCentering) {
  EXPECT_EQ(values_for("turboquant:bits=4:center=online:sinks=2"), "turboquant:bits=4:sinks=2");
  EXPECT_EQ(values_for("turboquant-prod:bits=4:sinks=2"), "turboquant:bits=4:sinks=2");
  EXPECT_EQ(values_for("rotorquant-calibrated:bits=4:sinks=2"),
            "rotorquant:bits=4:rotation=cascade:scale=mse:sinks=2");
}

TEST(TensorSpecification, CalibratedKeysHaveNoOtherCentre) {
  expect_contains(usage_message([] { parse_tensor_spec("rotorquant-calibrated:center=online", 3, 0); }),
                  "center has no meaning");
  EXPECT_TRUE(parse_tensor_spec("rotorquant-calibrated:center=none", 3, 0).calibrated());
}

TEST(TensorMethod, OneMethodForAllHeads) {
  const TensorMethod method(parse_tensor_spec("turboquant", 3, 4), 0, 20, nullptr);
  EXPECT_EQ(method.sinks(), 4);
  ASSERT_NE(method.quantizer(), nullptr);
  EXPECT_EQ(method.at(0, 0), method.at(29, 2));
  EXPECT_EQ(method.at(0, 0)->dim(), 20);
  EXPECT_FALSE(method.at(0, 0)->before_rope());
}

TEST(TensorMethod, CalibratedKeysNeedTransforms) {
  const std::string message =
      usage_message([] { TensorMethod(parse_tensor_spec("rotorquant-calibrated", 3, 0), 0, 64, nullptr); });
  expect_contains(message, "rotorquant-calibrated");
  expect_contains(message, "--transforms FILE");
}

TEST(TensorMethod, UnknownParametersOfCalibratedKeysAreNamed) {
  const auto build = [](const std::string& text) {
    return usage_message([&] { TensorMethod(parse_tensor_spec(text, 3, 0), 0, 64, nullptr); });
  };
  expect_contains(build("rotorquant-calibrated:serch=full"), "did you mean 'search'");
  expect_contains(build("rotorquant-calibrated:search=best"), "full|nearest");
  expect_contains(build("rotorquant-calibrated:adapt=scales"), "shift+scales|shift|none");
}

TEST(StoredSize, AddsFieldsOfOneKind) {
  const auto quantizer = make_quantizer(QuantizerSpec::parse("turboquant-prod"), {3, 0, 20});
  const StoredSize size = stored_size(quantizer->layout(), 7);
  std::int64_t bits = 0;
  for (const auto& [name, field_bits] : size.fields) bits += field_bits;
  // 20 coordinates in planes of 3 bytes: two of indices and one of signs; two norms.
  EXPECT_EQ(size.bits_per_vector, 3 * 24 + 2 * 16);
  EXPECT_EQ(bits, size.bits_per_vector);
  EXPECT_EQ(size.bits_per_value, 104.0 / 20.0);
  EXPECT_EQ(size.model_floats, 7);
}

}  // namespace
}  // namespace rotorquant::evaluation
