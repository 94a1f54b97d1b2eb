#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/calibration/dump_data.hpp"
#include "evaluation/dump/writer.hpp"
#include "rotorquant/cache/key_sequence.hpp"
#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
#include "rotorquant/rotations/dense.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr std::int64_t min_context = 64;
constexpr std::int64_t sinks = 4;

std::string capture(const std::string& name) {
  return std::string(ROTORQUANT_SOURCE_DIR) + "/data/" + name;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Mean over queries with enough context of KL(softmax(keys) || softmax(decoded)), in nats.
double attention_kl(const CalibrationSequence& sequence, double softmax_scale,
                    const std::vector<float>& decoded) {
  const std::int64_t dim = sequence.keys.cols;
  double total = 0.0;
  std::int64_t rows = 0;
  const auto logits = [&](const float* query, const float* keys, std::int64_t count) {
    std::vector<double> result(static_cast<std::size_t>(count));
    double mass = 0.0;
    for (std::int64_t s = 0; s < count; ++s) {
      double product = 0.0;
      for (std::int64_t c = 0; c < dim; ++c) {
        product += static_cast<double>(query[c]) * static_cast<double>(keys[s * dim + c]);
      }
      result[static_cast<std::size_t>(s)] = softmax_scale * product;
    }
    const double largest = *std::max_element(result.begin(), result.end());
    for (const double value : result) mass += std::exp(value - largest);
    for (double& value : result) value -= largest + std::log(mass);
    return result;
  };
  for (const HostView<const float>& queries : sequence.queries) {
    for (std::int64_t i = 0; i < queries.rows; ++i) {
      const std::int64_t seen = sequence.query_tokens[static_cast<std::size_t>(i)] + 1;
      if (seen <= min_context) continue;
      const std::vector<double> exact = logits(queries.row(i), sequence.keys.data, seen);
      const std::vector<double> coded = logits(queries.row(i), decoded.data(), seen);
      for (std::size_t s = 0; s < exact.size(); ++s) total += std::exp(exact[s]) * (exact[s] - coded[s]);
      ++rows;
    }
  }
  return total / static_cast<double>(rows);
}

std::vector<float> code_and_decode(const CalibrationSequence& sequence, const Rope& rope,
                                   std::shared_ptr<const KeyMethod> method) {
  KeySequence keys(std::move(method), sinks, std::make_shared<const Rope>(rope));
  keys.append({2}, sequence.keys, sequence.positions);
  std::vector<float> decoded(static_cast<std::size_t>(sequence.keys.size()));
  keys.decode({2}, {decoded.data(), sequence.keys.rows, sequence.keys.cols});
  return decoded;
}

// Fitted on 512 tokens of one text, used on another: two bits keep attention better than a dense rotation's
// four, three bits several times better.
TEST(CapturedKeys, CalibratedOnOneTextBeatDenseRotationsOnAnother) {
  std::vector<Dump> fit_on;
  fit_on.push_back(Dump::open(capture("smollm2-jargon-small.h5")));
  std::vector<Dump> judged_on;
  judged_on.push_back(Dump::open(capture("smollm2-python-small.h5")));
  const CalibrationData calibration = load_calibration_data(fit_on, {{17}});
  const CalibrationData evaluation = load_calibration_data(judged_on, {{17}});
  ASSERT_EQ(calibration.inputs.size(), 3U);
  ASSERT_EQ(calibration.sources.size(), 1U);
  EXPECT_EQ(calibration.sources[0].name, "smollm2-jargon-small.h5");
  EXPECT_EQ(calibration.sources[0].sha256, fit_on[0].sha256());
  EXPECT_EQ(calibration.sources[0].tokens, 512);

  FitSettings settings;
  settings.bits = {2, 3};
  const TransformSet set = fit_transforms({2}, calibration.inputs, calibration.model, settings);
  set.check_model(64, 3, evaluation.model.rope);
  const std::int64_t dim = 64;
  const auto dense = std::make_shared<CenteredKeys>(
      std::make_shared<ScalarCodec>(std::make_shared<DenseRotation>(DenseRotation::haar(dim, 0)),
                                    lloyd_max_codebook(CodebookLaw::gaussian, 4, dim)),
      Centering::none);
  double log_ratio = 0.0;
  for (const CalibrationInput& input : evaluation.inputs) {
    const auto kl_of = [&](std::shared_ptr<const KeyMethod> method) {
      return attention_kl(input.sequences[0], evaluation.model.softmax_scale,
                          code_and_decode(input.sequences[0], evaluation.model.rope, std::move(method)));
    };
    const double dense_four = kl_of(dense);
    EXPECT_LT(kl_of(std::make_shared<CalibratedKeys>(set.find(17, input.kv_head, 2).parameters)), dense_four);
    log_ratio += std::log(kl_of(std::make_shared<CalibratedKeys>(set.find(17, input.kv_head, 3).parameters)) /
                          dense_four);
  }
  EXPECT_LT(std::exp(log_ratio / 3.0), 0.29);
}

TEST(CalibrationDumps, ArePooledByLayer) {
  std::vector<Dump> dumps;
  dumps.push_back(Dump::open(capture("smollm2-jargon-small.h5")));
  DumpOptions shorter;
  shorter.max_tokens = 200;
  dumps.push_back(Dump::open(capture("smollm2-python-small.h5"), shorter));
  CalibrationData loaded = load_calibration_data(dumps);
  const CalibrationData data = std::move(loaded);
  ASSERT_EQ(data.inputs.size(), 9U);
  for (std::size_t i = 0; i < 9; ++i) {
    const CalibrationInput& input = data.inputs[i];
    EXPECT_EQ(input.layer, (std::vector<std::int64_t>{5, 17, 29})[i / 3]);
    EXPECT_EQ(input.kv_head, static_cast<std::int64_t>(i % 3));
    ASSERT_EQ(input.sequences.size(), 2U);
    EXPECT_EQ(input.sequences[0].keys.rows, 512);
    EXPECT_EQ(input.sequences[1].keys.rows, 200);
    EXPECT_EQ(input.sequences[1].positions.size(), 200U);
    ASSERT_EQ(input.sequences[0].queries.size(), 3U);
    // Query head h belongs to KV head h / 3.
    const std::vector<float> query = dumps[0].read_query(input.layer, 3 * input.kv_head + 2);
    EXPECT_TRUE(std::equal(query.begin(), query.end(), input.sequences[0].queries[2].data));
    const std::vector<float> key = dumps[1].read_key(input.layer, input.kv_head);
    EXPECT_TRUE(std::equal(key.begin(), key.end(), input.sequences[1].keys.data));
  }
}

class SmallDump : public testing::Test {
 protected:
  // A dump of random tensors with what `change` does to its description.
  Dump write(const std::string& name, const std::function<void(DumpInfo&)>& change, bool with_frequencies) {
    const std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("calibration_" + name + ".h5");
    written_.push_back(path);
    DumpInfo info;
    info.model = "random";
    info.num_layers = 1;
    info.num_query_heads = 2;
    info.num_kv_heads = 1;
    info.head_dim = info.value_dim = 4;
    info.num_tokens = info.num_queries = 10;
    info.rope_stage = "post";
    info.rope_theta = 100.0;
    info.rotary_dim = 4;
    info.softmax_scale = 0.5;
    info.layers = {0};
    change(info);
    DumpWriter writer(path.string(), info, ElementType::float32);
    const std::vector<float> values(40, 0.5F);
    writer.write_key(0, 0, {values.data(), 10, 4});
    writer.write_value(0, 0, {values.data(), 10, 4});
    for (std::int64_t h = 0; info.num_queries > 0 && h < 2; ++h)
      writer.write_query(0, h, {values.data(), 10, 4});
    if (with_frequencies) writer.write_rope_inv_freq(std::vector<double>{1.0, 0.1});
    writer.finish();
    return Dump::open(path.string());
  }
  void TearDown() override {
    for (const std::filesystem::path& path : written_) std::filesystem::remove(path);
  }
  static std::string refusal(Dump dump, std::optional<Dump> other = std::nullopt,
                             const std::optional<std::vector<std::int64_t>>& layers = std::nullopt) {
    std::vector<Dump> dumps;
    dumps.push_back(std::move(dump));
    if (other) dumps.push_back(std::move(*other));
    return message_of([&] { load_calibration_data(dumps, layers); });
  }

  std::vector<std::filesystem::path> written_;
};

TEST_F(SmallDump, RefusalsNameTheFileAndWhatIsMissing) {
  const auto unchanged = [](DumpInfo&) {};
  EXPECT_EQ(refusal(write("good", unchanged, true)), "");
  const std::string unknown = refusal(write("no_frequencies", unchanged, false));
  EXPECT_NE(unknown.find("calibration_no_frequencies.h5: rope_inv_freq is missing"), std::string::npos)
      << unknown;
  const auto before = [](DumpInfo& info) { info.rope_stage = "pre"; };
  EXPECT_NE(refusal(write("pre", before, true)).find("rope_stage is 'pre'"), std::string::npos);
  const auto mute = [](DumpInfo& info) { info.num_queries = 0; };
  EXPECT_NE(refusal(write("mute", mute, true)).find("needs queries"), std::string::npos);
  const auto scaled = [](DumpInfo& info) { info.softmax_scale = 0.25; };
  EXPECT_NE(
      refusal(write("good", unchanged, true), write("scaled", scaled, true)).find("softmax_scale differs"),
      std::string::npos);
  EXPECT_NE(refusal(write("good", unchanged, true), std::nullopt, {{0, 3}})
                .find("layer 3 is in no dump; present: 0"),
            std::string::npos);
}

TEST_F(SmallDump, WithoutRopeHasNoFrequencies) {
  const auto none = [](DumpInfo& info) {
    info.rope_stage = "none";
    info.rotary_dim = 0;
  };
  EXPECT_TRUE(dump_rope(write("none", none, false)).inv_freq.empty());
}

}  // namespace
}  // namespace rotorquant::evaluation
