// Statistics of heads against values known in closed form, and what inspect shows.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "dump_files.hpp"
#include "evaluation/dump/inspect.hpp"
#include "evaluation/dump/synth.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::SmallDump;
using testing::TempPath;

constexpr double rounding = 1e-12;

TensorStatistics measure(const std::vector<float>& rows, std::int64_t dim) {
  return measure_tensor({rows.data(), static_cast<std::int64_t>(rows.size()) / dim, dim});
}

TEST(Inspect, KnownStatistics) {
  // Rows +-3 e0, +-4 e1, each once: mean 0, covariance diag(9, 16, 0) / 2.
  const TensorStatistics s = measure({3, 0, 0, -3, 0, 0, 0, 4, 0, 0, -4, 0}, 3);
  EXPECT_EQ(s.norm_min, 3.0);
  EXPECT_EQ(s.norm_median, 3.5);
  EXPECT_EQ(s.norm_max, 4.0);
  EXPECT_NEAR(s.outlier_ratio, 4.0 / 3.0, rounding);
  EXPECT_EQ(s.top_channels, (std::vector<std::int64_t>{1, 0, 2}));
  EXPECT_NEAR(s.mean_energy_share, 0.0, rounding);
  const double p = 9.0 / 25.0;
  EXPECT_NEAR(s.effective_rank, std::exp(-p * std::log(p) - (1 - p) * std::log(1 - p)), rounding);
  EXPECT_NEAR(s.kurtosis, 3.0, rounding);  // one-hot rows: d
}

TEST(Inspect, MeanAndSpreadSeparate) {
  // A large common offset, deviations +-1 along each of two channels.
  const TensorStatistics s = measure({1001, 1000, 999, 1000, 1000, 1001, 1000, 999}, 2);
  EXPECT_NEAR(s.mean_energy_share, 2e6 / (2e6 + 1.0), rounding);
  EXPECT_NEAR(s.effective_rank, 2.0, 1e-9);
  EXPECT_NEAR(s.kurtosis, 1.0, 1e-5);  // both coordinates equally large
}

TEST(Inspect, DegenerateRows) {
  const TensorStatistics zero = measure(std::vector<float>(12, 0.0F), 4);
  EXPECT_EQ(zero.norm_max, 0.0);
  EXPECT_EQ(zero.outlier_ratio, 1.0);
  EXPECT_EQ(zero.mean_energy_share, 0.0);
  EXPECT_EQ(zero.effective_rank, 0.0);
  EXPECT_EQ(zero.kurtosis, 0.0);
  const TensorStatistics one = measure({0, 0, 2, 0}, 4);
  EXPECT_EQ(one.outlier_ratio, std::numeric_limits<double>::infinity());
  EXPECT_EQ(one.mean_energy_share, 1.0);
  EXPECT_EQ(one.effective_rank, 0.0);
  EXPECT_EQ(one.kurtosis, 4.0);
  EXPECT_EQ(measure({-3.0F}, 1).kurtosis, 1.0);
}

TEST(Inspect, VerdictsOfProfiles) {
  struct Expectation {
    SynthProfile profile;
    bool isotropic;
  };
  for (const Expectation& expected :
       {Expectation{SynthProfile::isotropic, true}, Expectation{SynthProfile::outliers, false},
        Expectation{SynthProfile::anisotropic, false}, Expectation{SynthProfile::one_hot, false}}) {
    const TempPath path("inspect_profile.h5");
    SynthOptions options;
    options.profile = expected.profile;
    options.layers = options.kv_heads = options.query_heads = 1;
    options.head_dim = 64;
    write_synthetic_dump(path.str(), options, {});
    const Inspection inspection = inspect_dump(Dump::open(path.str()), {0}, {0}, {});
    EXPECT_EQ(inspection.isotropy.isotropic, expected.isotropic)
        << synth_profile_names()[static_cast<std::size_t>(expected.profile)];
    const TensorStatistics& key = inspection.heads[0].key;
    if (expected.profile == SynthProfile::isotropic) {
      EXPECT_NEAR(key.kurtosis, 3.0 * 64 / 66, 0.05);
      EXPECT_GT(key.effective_rank, 60.0);
    }
    if (expected.profile == SynthProfile::outliers) {
      EXPECT_GT(key.outlier_ratio, 9.0);
    }
    if (expected.profile == SynthProfile::anisotropic) {
      EXPECT_NEAR(key.mean_energy_share, 0.6, 0.05);
    }
    if (expected.profile == SynthProfile::one_hot) {
      EXPECT_EQ(key.kurtosis, 64.0);
    }
  }
}

TEST(Inspect, DoesNotDependOnThreads) {
  const Dump dump = Dump::open(ROTORQUANT_SOURCE_DIR "/data/smollm2-python-small.h5", {.max_tokens = 128});
  const std::string one = inspection_json(inspect_dump(dump, {5, 29}, {0, 2}, Context{1})).dump();
  EXPECT_EQ(one, inspection_json(inspect_dump(dump, {5, 29}, {0, 2}, Context{4})).dump());
}

TEST(Inspect, RendersAllHeads) {
  const Dump dump = Dump::open(ROTORQUANT_SOURCE_DIR "/data/smollm2-jargon-small.h5");
  const Inspection inspection = inspect_dump(dump, dump.info().layers, {0, 1, 2}, {});
  const nlohmann::ordered_json json = inspection_json(inspection);
  EXPECT_EQ(json["heads"].size(), 9U);
  EXPECT_EQ(json["info"]["softmax_scale"], 0.125);
  EXPECT_EQ(json["heads"][8]["layer"], 29);
  EXPECT_EQ(json["heads"][8]["kv_head"], 2);
  EXPECT_EQ(json["heads"][0]["key"]["norm"]["max"], inspection.heads[0].key.norm_max);
  EXPECT_EQ(json["isotropy"]["isotropic"], false);
  const std::string text = inspection_text(inspection);
  EXPECT_NE(text.find("layers     3 of 30: 5, 17, 29\n"), std::string::npos) << text;
  EXPECT_NE(text.find("keys       3 heads x 512 tokens x 64, float16\n"), std::string::npos);
  EXPECT_NE(text.find("verdict: the keys are not isotropic"), std::string::npos);
}

TEST(Inspect, RendersProblemsAndInfinities) {
  EXPECT_EQ(problems_text("x.h5", {}), "x.h5: valid\n");
  const std::vector<Problem> problems = {{"/layers/005/key", "dataset is missing"},
                                         {"/", "attribute causal is missing"}};
  EXPECT_EQ(problems_text("x.h5", problems),
            "x.h5: /layers/005/key: dataset is missing\nx.h5: /: attribute causal is missing\n");
  EXPECT_EQ(
      problems_json("x.h5", problems).dump(),
      R"({"path":"x.h5","valid":false,"problems":[{"path":"/layers/005/key","message":"dataset is missing"},)"
      R"({"path":"/","message":"attribute causal is missing"}]})");
  const TempPath path("one_channel.h5");
  SmallDump().write(path.str());
  {
    testing::FileEditor file(path.str(), testing::FileEditor::Mode::edit);
    file.floats("/layers/005/key", {2, 6, 4}, std::vector<float>(48, 0.0F));
    file.poke("/layers/005/key", 0, 2, 1, 5.0);
  }
  const auto json = inspection_json(inspect_dump(Dump::open(path.str()), {5}, {0}, {}));
  EXPECT_TRUE(json["heads"][0]["key"]["outlier_ratio"].is_null());
  EXPECT_EQ(json["heads"][0]["key"]["top_channels"][0], 1);
}

}  // namespace
}  // namespace rotorquant::evaluation
