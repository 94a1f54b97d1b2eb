#include <gtest/gtest.h>

#include "evaluation/sweep/messages.hpp"
#include "evaluation/sweep/tensor_method.hpp"
#include "rotorquant/core/error.hpp"
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
  EXPECT_EQ(spec.sixteen_bits.sinks, 4);
  EXPECT_EQ(spec.sixteen_bits.window, 0);
  EXPECT_EQ(spec.centering, Centering::none);
  EXPECT_FALSE(spec.calibrated());
}

TEST(TensorSpecification, ParametersOfTheSequenceAreTakenOut) {
  const TensorSpec spec = parse_tensor_spec(
      "turboquant:bits=5:center=online:edge_bits=6:edge_layers=2:outliers=8:rotation=hadamard:scale=mse:"
      "sinks=7:window=32",
      3, 4);
  EXPECT_EQ(spec.quantizer.text(), "turboquant:rotation=hadamard:scale=mse");
  EXPECT_EQ(spec.bits, 5);
  EXPECT_EQ(spec.sixteen_bits.sinks, 7);
  EXPECT_EQ(spec.sixteen_bits.window, 32);
  EXPECT_EQ(spec.outliers, 8);
  EXPECT_EQ(spec.edge_layers, 2);
  EXPECT_EQ(spec.edge_bits, 6);
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
  EXPECT_EQ(parse_tensor_spec("turboquant:sinks=0", 3, 4).sixteen_bits.sinks, 0);
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

TEST(TensorSpecification, WidthsThatAQuantizerCannotHave) {
  EXPECT_EQ(width_refusal(parse_tensor_spec("turboquant", 1, 0)), "");
  EXPECT_EQ(width_refusal(parse_tensor_spec("turboquant-prod", 1, 0)),
            "turboquant-prod needs at least 2 bits");
  EXPECT_EQ(width_refusal(parse_tensor_spec("rotorquant-calibrated", 1, 0)), "");
}

TEST(TensorSpecification, KivisWindowIsItsPapers) {
  EXPECT_EQ(parse_tensor_spec("kivi", 2, 0).sixteen_bits.window, 128);
  EXPECT_EQ(parse_tensor_spec("kivi:window=32", 2, 0).sixteen_bits.window, 32);
}

TEST(TensorSpecification, EdgeLayersNeedTheirWidth) {
  for (const char* text : {"turboquant:edge_layers=1", "turboquant:edge_bits=4"}) {
    expect_contains(usage_message([&] { parse_tensor_spec(text, 3, 0); }), "valid: both");
  }
  expect_contains(usage_message([] { parse_tensor_spec("q4_0:edge_layers=1:edge_bits=8", 3, 0); }),
                  "it has one width");
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
  EXPECT_EQ(values_for("kvtc:sinks=4"), "turboquant:sinks=4");
  EXPECT_EQ(values_for("block-gtq"), "turboquant");
}

TEST(TensorSpecification, ValuesShareWidthAndSinksButNotCentering) {
  EXPECT_EQ(values_for("turboquant:bits=4:center=online:sinks=2"), "turboquant:bits=4:sinks=2");
  EXPECT_EQ(values_for("turboquant-prod:outliers=8:window=32:edge_layers=1:edge_bits=5"),
            "turboquant:edge_bits=5:edge_layers=1:outliers=8:window=32");
  EXPECT_EQ(values_for("turboquant-prod:bits=4:sinks=2"), "turboquant:bits=4:sinks=2");
  EXPECT_EQ(values_for("rotorquant-calibrated:bits=4:sinks=2"),
            "rotorquant:bits=4:rotation=cascade:scale=mse:sinks=2");
}

TEST(TensorSpecification, CalibratedKeysHaveNoOtherCentre) {
  expect_contains(usage_message([] { parse_tensor_spec("rotorquant-calibrated:center=online", 3, 0); }),
                  "center has no meaning");
  EXPECT_TRUE(parse_tensor_spec("rotorquant-calibrated:center=none", 3, 0).calibrated());
  expect_contains(usage_message([] { parse_tensor_spec("rotorquant-calibrated:outliers=4", 3, 0); }),
                  "outliers has no meaning");
}

TensorContext in_dim(std::int64_t dim, TensorRole role = TensorRole::keys, std::int64_t num_layers = 30) {
  return {0, dim, nullptr, role, num_layers};
}

TEST(TensorMethod, OneMethodForAllHeads) {
  const TensorMethod method(parse_tensor_spec("turboquant", 3, 4), in_dim(20));
  EXPECT_EQ(method.sixteen_bits().sinks, 4);
  ASSERT_NE(method.quantizer(), nullptr);
  EXPECT_EQ(method.at(0, 0), method.at(29, 2));
  EXPECT_EQ(method.at(0, 0)->dim(), 20);
  EXPECT_FALSE(method.at(0, 0)->before_rope());
}

TEST(TensorMethod, FirstAndLastLayersHaveTheirOwnWidth) {
  const TensorMethod method(parse_tensor_spec("turboquant:edge_layers=2:edge_bits=5", 3, 0), in_dim(64));
  EXPECT_EQ(method.quantizer(), nullptr);
  EXPECT_EQ(method.base()->layout().bits_of(FieldKind::index), 3 * 64);
  EXPECT_EQ(method.model_floats(), 2 * 64 * 64);  // two rotations
  for (const std::int64_t layer : {0, 1, 28, 29})
    EXPECT_EQ(method.at(layer, 0)->layout().bits_of(FieldKind::index), 5 * 64);
  for (const std::int64_t layer : {2, 15, 27}) EXPECT_EQ(method.at(layer, 0), method.base());
}

TEST(TensorMethod, KiviFollowsTheTensorUnlessTold) {
  const auto tokens_of = [](const char* text, TensorRole role) {
    return TensorMethod(parse_tensor_spec(text, 2, 0), in_dim(64, role)).at(0, 0)->tokens_per_code();
  };
  EXPECT_EQ(tokens_of("kivi", TensorRole::keys), 32);
  EXPECT_EQ(tokens_of("kivi", TensorRole::values), 1);
  EXPECT_EQ(tokens_of("kivi:axis=token", TensorRole::keys), 1);
  EXPECT_EQ(tokens_of("kivi:axis=channel:group=64", TensorRole::values), 64);
}

TEST(TensorMethod, CalibratedKeysNeedTransforms) {
  const std::string message =
      usage_message([] { TensorMethod(parse_tensor_spec("rotorquant-calibrated", 3, 0), in_dim(64)); });
  expect_contains(message, "rotorquant-calibrated");
  expect_contains(message, "--transforms FILE");
}

TEST(TensorMethod, UnknownParametersOfCalibratedKeysAreNamed) {
  const auto build = [](const std::string& text) {
    return usage_message([&] { TensorMethod(parse_tensor_spec(text, 3, 0), in_dim(64)); });
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

TEST(StoredSize, SharesACodeOutAmongItsTokens) {
  const CodeLayout layout{4 * 8, {number_array("scales", FieldKind::scale, 16 * 8)}};
  const StoredSize size = stored_size(layout, 0, 4);
  EXPECT_EQ(size.bits_per_vector, 32);
  EXPECT_EQ(size.bits_per_value, 4.0);
  EXPECT_THROW(stored_size(layout, 0, 3), Error);
}

}  // namespace
}  // namespace rotorquant::evaluation
