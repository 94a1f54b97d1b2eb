#include <gtest/gtest.h>

#include "evaluation/sweep/messages.hpp"
#include "evaluation/sweep/schemes.hpp"
#include "evaluation/sweep/settings.hpp"
#include "evaluation/sweep/tensor_method.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::expect_contains;
using testing::usage_message;

SchemeTensors scheme(const std::string& text, std::int64_t sinks = 0) {
  return find_scheme(QuantizerSpec::parse(text), sinks).value();
}

TEST(Schemes, EachIsAPairThatCanBeParsed) {
  for (const Scheme& known : scheme_registry()) {
    const SchemeTensors tensors = scheme(known.name);
    EXPECT_TRUE(parse_tensor_spec(tensors.keys.text(), 3, 0).calibrated());
    EXPECT_EQ(parse_tensor_spec(tensors.values.text(), 3, 0).quantizer.name, "rotorquant");
  }
}

TEST(Schemes, FourSinksUnlessSaidOtherwise) {
  const auto sinks = [](const SchemeTensors& tensors, std::int64_t of_all) {
    const std::int64_t keys = parse_tensor_spec(tensors.keys.text(), 3, of_all).sixteen_bits.sinks;
    EXPECT_EQ(parse_tensor_spec(tensors.values.text(), 3, of_all).sixteen_bits.sinks, keys);
    return keys;
  };
  EXPECT_EQ(sinks(scheme("rotorquant-max"), 0), 4);
  EXPECT_EQ(sinks(scheme("rotorquant-max", 8), 8), 8) << "those of the request";
  EXPECT_EQ(sinks(scheme("rotorquant-max:sinks=2", 8), 8), 2);
  EXPECT_EQ(sinks(scheme("rotorquant-max:sinks=0"), 0), 0);
}

TEST(Schemes, ParametersReachKeysAndValues) {
  const SchemeTensors tensors = scheme("rotorquant-max:memory=3:bits=2");
  for (const QuantizerSpec* spec : {&tensors.keys, &tensors.values}) {
    EXPECT_EQ(spec->parameters.at("memory"), "3");
    EXPECT_EQ(spec->parameters.at("bits"), "2");
    EXPECT_EQ(spec->parameters.at("codec"), "trellis");
  }
}

TEST(Schemes, OtherNamesAndParametersAreNot) {
  EXPECT_FALSE(find_scheme(QuantizerSpec::parse("turboquant"), 0).has_value());
  expect_contains(usage_message([] { scheme("rotorquant-max:scale=mse"); }), "scale");
}

TEST(Schemes, DoNotApplyWhereKeysAndValuesAreNamedApart) {
  SweepRequest request;
  request.keys = {"rotorquant-max"};
  request.values = {"turboquant"};
  expect_contains(usage_message([&] { setting_labels(request); }), "stands for keys and values");
}

}  // namespace
}  // namespace rotorquant::evaluation
