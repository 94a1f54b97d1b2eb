#include <gtest/gtest.h>

#include "evaluation/statistics/theory.hpp"
#include "evaluation/sweep/messages.hpp"
#include "evaluation/sweep/settings.hpp"
#include "rotorquant/codes/codes.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::expect_contains;
using testing::usage_message;

using Texts = std::vector<std::string>;

const SettingContext context{64, 64, Space::cpu, nullptr, ""};

SweepRequest request_of(const Texts& quantizers, std::vector<std::int64_t> bits = {2, 3}) {
  SweepRequest request;
  request.quantizers = quantizers;
  request.bits = std::move(bits);
  return request;
}

// "label @ bits: keys / values" of every setting.
Texts described(const SettingList& list) {
  Texts texts;
  for (const Setting& s : list.settings) {
    texts.push_back(s.label + " @ " + std::to_string(s.bits) + ": " + s.keys + " / " + s.values);
  }
  return texts;
}

// The one setting of a quantizer at 3 bits.
Setting setting_of(const std::string& quantizer, const SettingContext& in = context) {
  const SettingList list = expand_settings(request_of({quantizer}, {3}), in);
  EXPECT_EQ(list.settings.size(), 1U);
  return list.settings.front();
}

TEST(Settings, QuantizersThenBitsInTheOrderOfTheRequest) {
  EXPECT_EQ(described(expand_settings(request_of({"turboquant", "rotorquant-prod"}, {4, 2}), context)),
            (Texts{"turboquant @ 4: turboquant / turboquant", "turboquant @ 2: turboquant / turboquant",
                   "rotorquant-prod @ 4: rotorquant-prod / rotorquant",
                   "rotorquant-prod @ 2: rotorquant-prod / rotorquant"}));
}

TEST(Settings, ALabelIsWhatWasWritten) {
  const Setting setting = setting_of("turboquant:scale=mse:rotation=hadamard");
  EXPECT_EQ(setting.label, "turboquant:scale=mse:rotation=hadamard");
  EXPECT_EQ(setting.keys, "turboquant:rotation=hadamard:scale=mse");  // canonical
}

TEST(Settings, AFixedWidthIsOneSetting) {
  EXPECT_EQ(described(expand_settings(request_of({"turboquant:bits=5", "identity"}, {2, 3}), context)),
            (Texts{"turboquant:bits=5 @ 5: turboquant:bits=5 / turboquant:bits=5",
                   "identity @ 2: identity / identity", "identity @ 3: identity / identity"}));
}

TEST(Settings, KeysAndValuesPairUp) {
  SweepRequest request;
  request.bits = {3};
  request.keys = {"turboquant-prod", "identity"};
  request.values = {"turboquant:bits=2", "rotorquant"};
  EXPECT_EQ(described(expand_settings(request, context)),
            (Texts{"turboquant-prod | turboquant:bits=2 @ 3: turboquant-prod / turboquant:bits=2",
                   "identity | rotorquant @ 3: identity / rotorquant"}));
  request.values = {"turboquant"};
  EXPECT_EQ(described(expand_settings(request, context)),
            (Texts{"turboquant-prod | turboquant @ 3: turboquant-prod / turboquant",
                   "identity | turboquant @ 3: identity / turboquant"}));
  std::swap(request.keys, request.values);
  EXPECT_EQ(described(expand_settings(request, context)).back(),
            "turboquant | identity @ 3: turboquant / identity");
}

TEST(Settings, BothWidthsFixedIsOneSetting) {
  SweepRequest request;
  request.bits = {2, 3};
  request.keys = {"turboquant:bits=4"};
  request.values = {"turboquant:bits=2"};
  EXPECT_EQ(expand_settings(request, context).settings.size(), 1U);
  request.values = {"turboquant"};  // the sweep's widths are the values'
  EXPECT_EQ(described(expand_settings(request, context)),
            (Texts{"turboquant:bits=4 | turboquant @ 2: turboquant:bits=4 / turboquant",
                   "turboquant:bits=4 | turboquant @ 3: turboquant:bits=4 / turboquant"}));
}

TEST(Settings, AFormatOfOneWidthIsOneSettingOfThatWidth) {
  EXPECT_EQ(described(expand_settings(request_of({"q4_0", "identity16"}), context)),
            (Texts{"q4_0 @ 4: q4_0 / q4_0", "identity16 @ 16: identity16 / identity16"}));
  SweepRequest request;
  request.bits = {2};
  request.keys = {"q8_0"};
  request.values = {"q4_0"};
  const Setting setting = expand_settings(request, context).settings.front();
  EXPECT_EQ(setting.key_size.bits_per_value, 8.5);
  EXPECT_EQ(setting.value_size.bits_per_value, 4.5);
  expect_contains(usage_message([] { expand_settings(request_of({"q4_0:bits=3"}), context); }),
                  "quantizer 'q4_0': bits = 3; valid: 4");
}

TEST(Settings, KiviCodesKeysByChannelAndValuesByToken) {
  const Setting setting = setting_of("kivi:group=16", {64, 32, Space::cpu, nullptr, ""});
  const auto bits_of = [](const StoredSize& size, const std::string& name) {
    for (const auto& [field, bits] : size.fields) {
      if (field == name) return bits;
    }
    return std::int64_t{0};
  };
  // A key's share of the 64 scales that 16 tokens have together; a value has two groups of its own.
  EXPECT_EQ(bits_of(setting.key_size, "scale"), 64 * 16 / 16);
  EXPECT_EQ(bits_of(setting.value_size, "scale"), 2 * 16);
  EXPECT_EQ(setting.key_size.bits_per_value, 3.0 + 32.0 / 16.0);
  EXPECT_EQ(setting.value_size.bits_per_value, 3.0 + 32.0 / 16.0);
  expect_contains(usage_message([] { setting_of("kivi:window=48"); }),
                  "window = 48; valid: multiples of the 32");
}

TEST(Settings, OutlierChannelsHaveABitMoreAndANormOfTheirOwn) {
  const Setting setting = setting_of("turboquant:outliers=16");
  EXPECT_EQ(setting.key_size.bits_per_vector, 16 * 4 + 48 * 3 + 2 * 16);
  EXPECT_FALSE(setting.isotropic_nmse.has_value());
  expect_contains(usage_message([] { setting_of("turboquant:outliers=64"); }),
                  "outliers = 64; valid: 0 to 63");
  const SettingList list = expand_settings(request_of({"turboquant:outliers=8"}, {7, 8}), context);
  ASSERT_EQ(list.skipped.size(), 1U);
  EXPECT_EQ(list.skipped[0].why, "turboquant has at most 8 bits");
}

TEST(Settings, ListsThatDoNotPairUp) {
  SweepRequest request;
  request.keys = {"turboquant"};
  expect_contains(usage_message([&] { expand_settings(request, context); }), "only one of them is given");
  request.keys = {"turboquant", "identity"};
  request.values = {"turboquant", "identity", "rotorquant"};
  expect_contains(usage_message([&] { expand_settings(request, context); }),
                  "2 and 3 quantizers do not pair up");
}

TEST(Settings, DuplicatesAreRefused) {
  expect_contains(usage_message([] {
                    expand_settings(request_of({"turboquant", "turboquant"}), context);
                  }),
                  "'turboquant' is given twice at 2 bits");
}

TEST(Settings, WidthsThatAQuantizerCannotHaveAreSkippedWithAReason) {
  const SettingList list = expand_settings(request_of({"turboquant-prod"}, {1, 2}), context);
  ASSERT_EQ(list.settings.size(), 1U);
  EXPECT_EQ(list.settings[0].bits, 2);
  ASSERT_EQ(list.skipped.size(), 1U);
  EXPECT_EQ(list.skipped[0].what, "turboquant-prod at 1 bits");
  EXPECT_EQ(list.skipped[0].why, "turboquant-prod needs at least 2 bits");
  expect_contains(usage_message([] { expand_settings(request_of({"turboquant-prod"}, {1}), context); }),
                  "nothing to do: turboquant-prod needs at least 2 bits");
}

TEST(Settings, NothingGiven) {
  expect_contains(usage_message([] { expand_settings(SweepRequest{}, context); }), "no quantizers given");
}

TEST(Settings, UnknownQuantizersAndParameters) {
  expect_contains(usage_message([] { expand_settings(request_of({"turboqant"}), context); }), "'turboquant'");
  expect_contains(usage_message([] { expand_settings(request_of({"turboquant:rotaton=haar"}), context); }),
                  "'rotation'");
  SweepRequest request;
  request.keys = {"turboquant"};
  request.values = {"rotorquant-calibrated"};
  expect_contains(usage_message([&] { expand_settings(request, context); }), "it codes keys");
}

TEST(Settings, SizesAreThoseOfTheDims) {
  const Setting setting = setting_of("turboquant-prod", {64, 20, Space::cpu, nullptr, ""});
  EXPECT_EQ(setting.key_size.bits_per_vector, 2 * 64 + 64 + 32);
  EXPECT_EQ(setting.value_size.bits_per_vector, 3 * 24 + 16);
  EXPECT_EQ(setting.key_size.bits_per_value, 224.0 / 64.0);
  EXPECT_EQ(setting.value_size.model_floats, 20 * 20);
}

TEST(Settings, TheoryWhereItHasSomethingToSay) {
  const Setting plain = setting_of("turboquant");
  ASSERT_TRUE(plain.isotropic_nmse && plain.nmse_bound);
  EXPECT_NEAR(*plain.isotropic_nmse, 0.0334, 1e-4);
  EXPECT_EQ(*plain.nmse_bound, mse_bound(3));
  EXPECT_FALSE(setting_of("turboquant-prod").isotropic_nmse.has_value());
}

TEST(Settings, ValuesHaveASeedOfTheirOwn) {
  const Setting setting = setting_of("turboquant");
  const MethodPair pair = build_methods(setting, 0, context);
  const MethodPair later = build_methods(setting, 100, context);
  std::vector<float> x(64, 0.0F);
  x[0] = 1.0F;
  const auto decoded = [&](const TensorMethod& method) {
    std::vector<float> out(64);
    CodeBuffer codes(method.quantizer()->layout(), 1);
    method.quantizer()->encode({}, {x.data(), 1, 64}, codes.view());
    method.quantizer()->decode({}, codes.view(), {out.data(), 1, 64});
    return out;
  };
  EXPECT_EQ(decoded(pair.values), decoded(later.keys));
  EXPECT_NE(decoded(pair.values), decoded(pair.keys));
}

TEST(DifferInRotationAlone, SameCodecBehindAnotherRotation) {
  const std::pair<const char*, const char*> cases[] = {
      {"turboquant", "rotorquant"},
      {"turboquant", "turboquant:rotation=hadamard"},
      {"turboquant", "rotorquant:rotation=cascade:layers=3"},
      {"turboquant", "identity"},
      {"isoquant", "planarquant"},
      {"turboquant-prod", "rotorquant-prod"},
      {"turboquant:scale=mse", "rotorquant:scale=mse:rotor_sampling=haar"},
      {"turboquant:sinks=4", "rotorquant:sinks=4"},
  };
  for (const auto& [a, b] : cases) {
    EXPECT_TRUE(differ_in_rotation_alone(setting_of(a), setting_of(b))) << a << ", " << b;
    EXPECT_TRUE(differ_in_rotation_alone(setting_of(b), setting_of(a))) << b << ", " << a;
  }
}

TEST(DifferInRotationAlone, AnythingElseIsADifference) {
  const std::pair<const char*, const char*> cases[] = {
      {"turboquant", "turboquant-prod"},
      {"turboquant", "rotorquant:scale=mse"},
      {"turboquant", "rotorquant:codebook=sphere"},
      {"turboquant", "rotorquant:center=online"},
      {"turboquant", "rotorquant:sinks=4"},
      {"turboquant", "rotorquant:norm=fp32"},
      {"turboquant", "rotorquant:tail=pad"},
      {"turboquant", "turboquant:codec=trellis"},
      {"turboquant-prod", "rotorquant-prod:qjl_dim=32"},
      {"turboquant", "turboquant:bits=2"},
  };
  for (const auto& [a, b] : cases) {
    EXPECT_FALSE(differ_in_rotation_alone(setting_of(a), setting_of(b))) << a << ", " << b;
    EXPECT_FALSE(differ_in_rotation_alone(setting_of(b), setting_of(a))) << b << ", " << a;
  }
}

}  // namespace
}  // namespace rotorquant::evaluation
