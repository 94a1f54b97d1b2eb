#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "evaluation/calibration/fit.hpp"
#include "evaluation/calibration/synthetic_head.hpp"
#include "evaluation/calibration/transforms_file.hpp"
#include "evaluation/dump/hdf5.hpp"
#include "rotorquant/cache/key_sequence.hpp"
#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
#include "rotorquant/rotations/dense.hpp"

namespace rotorquant::evaluation {
namespace {

using testing_support::synthetic_head;
using testing_support::synthetic_model;
using testing_support::synthetic_rope;
using testing_support::SyntheticHead;

constexpr std::int64_t dim = 12;
constexpr std::int64_t tokens = 300;

FitSettings small_settings() {
  FitSettings settings;
  settings.bits = {2, 3};
  settings.layers = 3;
  settings.iterations = 20;
  settings.centroid_bits = 2;
  settings.min_context = 16;
  return settings;
}

// Two layers of two KV heads.
struct SmallModel {
  Rope rope = synthetic_rope(dim);
  std::vector<SyntheticHead> heads;
  std::vector<CalibrationInput> inputs;

  SmallModel() {
    for (std::uint32_t i = 0; i < 4; ++i) heads.push_back(synthetic_head(dim, tokens, rope, i));
    for (std::size_t i = 0; i < 4; ++i) {
      inputs.push_back(
          {static_cast<std::int64_t>(i) / 2 * 5, static_cast<std::int64_t>(i) % 2, {heads[i].sequence()}});
    }
  }
  TransformSet fit(int threads = 1, FitSettings settings = small_settings()) const {
    TransformSet set = fit_transforms({threads}, inputs, synthetic_model(dim, rope), settings);
    set.sources = {{"text.h5", std::string(64, 'a'), "model", "a text", tokens}};
    return set;
  }
};

void expect_equal(const TransformSet& a, const TransformSet& b) {
  ASSERT_EQ(a.heads.size(), b.heads.size());
  for (std::size_t h = 0; h < a.heads.size(); ++h) {
    EXPECT_EQ(a.heads[h].layer, b.heads[h].layer);
    EXPECT_EQ(a.heads[h].kv_head, b.heads[h].kv_head);
    ASSERT_EQ(a.heads[h].bits.size(), b.heads[h].bits.size());
    EXPECT_EQ(a.heads[h].statistics->mean, b.heads[h].statistics->mean);
    EXPECT_EQ(a.heads[h].statistics->components, b.heads[h].statistics->components);
    EXPECT_EQ(a.heads[h].statistics->variances, b.heads[h].statistics->variances);
    EXPECT_EQ(a.heads[h].statistics->key_energy, b.heads[h].statistics->key_energy);
    EXPECT_EQ(a.heads[h].statistics->query_energy, b.heads[h].statistics->query_energy);
    for (std::size_t i = 0; i < a.heads[h].bits.size(); ++i) {
      const CalibratedParameters& x = *a.heads[h].bits[i].parameters;
      const CalibratedParameters& y = *b.heads[h].bits[i].parameters;
      EXPECT_EQ(a.heads[h].bits[i].bits, b.heads[h].bits[i].bits);
      EXPECT_EQ(x.centroids, y.centroids);
      EXPECT_EQ(x.scale.zero, y.scale.zero);
      EXPECT_EQ(x.deviations, y.deviations);
      EXPECT_EQ(x.weights, y.weights);
      EXPECT_EQ(x.query_metric, y.query_metric);
      EXPECT_EQ(x.transform.delta, y.transform.delta);
      ASSERT_EQ(x.transform.layers.size(), y.transform.layers.size());
      for (std::size_t l = 0; l < x.transform.layers.size(); ++l) {
        EXPECT_EQ(x.transform.layers[l].triples, y.transform.layers[l].triples);
        EXPECT_EQ(x.transform.layers[l].blocks, y.transform.layers[l].blocks);
      }
      EXPECT_EQ(a.heads[h].bits[i].objective.after, b.heads[h].bits[i].objective.after);
    }
  }
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// sum over queries and keys of p (logit error)^2 - (sum p logit error)^2: twice the attention KL to second
// order.
double attention_error(const SyntheticHead& head, const std::vector<float>& decoded) {
  double total = 0.0;
  for (const std::vector<float>& queries : head.queries) {
    for (std::size_t i = 16; i < static_cast<std::size_t>(tokens); ++i) {
      double mass = 0.0, first = 0.0, second = 0.0;
      for (std::size_t s = 0; s <= i; ++s) {
        double logit = 0.0, error = 0.0;
        for (std::size_t c = 0; c < dim; ++c) {
          const auto q = static_cast<double>(queries[i * dim + c]);
          logit += q * static_cast<double>(head.keys[s * dim + c]);
          error += q * static_cast<double>(decoded[s * dim + c] - head.keys[s * dim + c]);
        }
        const double p = std::exp(logit / std::sqrt(static_cast<double>(dim)));
        mass += p;
        first += p * error;
        second += p * error * error;
      }
      total += second / mass - first * first / (mass * mass);
    }
  }
  return total;
}

std::vector<float> code_and_decode(const SyntheticHead& head, const Rope& rope,
                                   std::shared_ptr<const KeyMethod> method) {
  KeySequence sequence(std::move(method), 4, std::make_shared<const Rope>(rope));
  sequence.append({1}, {head.keys.data(), tokens, dim}, head.positions);
  std::vector<float> decoded(head.keys.size());
  sequence.decode({1}, {decoded.data(), tokens, dim});
  return decoded;
}

TEST(Fit, BeatsADenseRotationAtOneBitMoreOnDataOfTheSameKind) {
  const SmallModel model;
  for (const BlockKind kind : {BlockKind::rotor, BlockKind::general}) {
    FitSettings settings = small_settings();
    settings.blocks = kind;
    const TransformSet set = model.fit(1, settings);
    for (std::size_t h = 0; h < 4; ++h) {
      const SyntheticHead& head = model.heads[h];
      const auto calibrated = std::make_shared<CalibratedKeys>(set.heads[h].bits[1].parameters);
      const auto dense = std::make_shared<CenteredKeys>(
          std::make_shared<ScalarCodec>(std::make_shared<DenseRotation>(DenseRotation::haar(dim, 3)),
                                        lloyd_max_codebook(CodebookLaw::gaussian, 4, dim)),
          Centering::none);
      EXPECT_LT(attention_error(head, code_and_decode(head, model.rope, calibrated)),
                attention_error(head, code_and_decode(head, model.rope, dense)))
          << "head " << h;
      for (const BitsFit& fit : set.heads[h].bits) {
        EXPECT_LT(fit.objective.start, fit.objective.before);
        EXPECT_LE(fit.objective.after, fit.objective.start);
        EXPECT_GE(fit.objective.after, fit.objective.bound - 1e-9);
      }
    }
  }
}

TEST(Fit, DoesNotDependOnThreadsAndReportsProgress) {
  const SmallModel model;
  expect_equal(model.fit(1), model.fit(3));
  std::vector<std::int64_t> reports;
  fit_transforms({2}, model.inputs, synthetic_model(dim, model.rope), small_settings(),
                 [&](std::int64_t done, std::int64_t total) {
                   EXPECT_EQ(total, 4);
                   reports.push_back(done);
                 });
  EXPECT_EQ(reports, (std::vector<std::int64_t>{1, 2, 3, 4}));
}

TEST(Fit, OfAHeadDoesNotDependOnTheOthers) {
  const SmallModel model;
  const TransformSet all = model.fit();
  TransformSet last = fit_transforms({1}, std::span(model.inputs).last(1), synthetic_model(dim, model.rope),
                                     small_settings());
  TransformSet expected = all;
  expected.heads = {all.heads[3]};
  expect_equal(last, expected);
}

// Twice the same sequence has the statistics of once, to rounding.
TEST(Fit, PoolsSequences) {
  const SmallModel model;
  std::vector<CalibrationInput> doubled = {model.inputs[0]};
  doubled[0].sequences.push_back(model.inputs[0].sequences[0]);
  FitSettings settings = small_settings();
  settings.centroid_bits = 0;  // k-means draws depend on the number of points
  settings.layers = 0;
  const CalibrationModel shape = synthetic_model(dim, model.rope);
  const TransformSet once = fit_transforms({1}, std::span(model.inputs).first(1), shape, settings);
  const TransformSet twice = fit_transforms({1}, doubled, shape, settings);
  const CalibratedParameters& a = *once.heads[0].bits[0].parameters;
  const CalibratedParameters& b = *twice.heads[0].bits[0].parameters;
  for (std::size_t i = 0; i < dim; ++i) {
    EXPECT_NEAR(a.centroids[i], b.centroids[i], 1e-5);
    EXPECT_NEAR(a.deviations[i], b.deviations[i], 1e-5);
    EXPECT_NEAR(a.weights[i], b.weights[i], 1e-5);
  }
}

TEST(Fit, RefusesBadInputInOneLineThatNamesTheHead) {
  const SmallModel model;
  const CalibrationModel shape = synthetic_model(dim, model.rope);
  const auto refuses =
      [&](const std::function<void(std::vector<CalibrationInput>&, CalibrationModel&)>& spoil,
          const std::vector<std::string>& named) {
        std::vector<CalibrationInput> inputs = model.inputs;
        CalibrationModel spoiled = shape;
        spoil(inputs, spoiled);
        const std::string message =
            message_of([&] { fit_transforms({1}, inputs, spoiled, small_settings()); });
        for (const std::string& name : named) {
          EXPECT_NE(message.find(name), std::string::npos) << "'" << message << "' should name " << name;
        }
        EXPECT_EQ(message.find('\n'), std::string::npos);
      };
  std::vector<float> bad = model.heads[3].keys;
  bad[100 * dim + 2] = std::numeric_limits<float>::quiet_NaN();
  refuses([&](auto& inputs, auto&) { inputs[3].sequences[0].keys.data = bad.data(); },
          {"layer 5, KV head 1", "token 100, channel 2"});
  refuses([&](auto& inputs, auto&) { inputs[1].sequences[0].queries[1].data = bad.data(); },
          {"layer 0, KV head 1", "query"});
  refuses(
      [](auto& inputs, auto&) {
        inputs[0].sequences[0].keys.rows = 20;
        inputs[0].sequences[0].positions = inputs[0].sequences[0].positions.first(20);
        inputs[0].sequences[0].query_tokens = inputs[0].sequences[0].query_tokens.first(20);
        for (auto& head : inputs[0].sequences[0].queries) head.rows = 20;
      },
      {"16 tokens after 4 sinks", "at least 24"});
  refuses([](auto& inputs, auto&) { inputs[2].sequences[0].queries.clear(); },
          {"layer 5, KV head 0", "no query"});
  refuses([](auto&, auto& shape_) { shape_.head_dim = 16; }, {"head_dim 16"});
  const std::vector<float> equal(static_cast<std::size_t>(tokens * dim), 1.0F);
  refuses(
      [&](auto& inputs, auto& shape_) {
        inputs[0].sequences[0].keys.data = equal.data();
        shape_.rope = {};
      },
      {"layer 0, KV head 0", "keys are equal"});

  FitSettings settings = small_settings();
  settings.bits = {3, 9};
  EXPECT_THROW(fit_transforms({1}, model.inputs, shape, settings), UsageError);
  settings.bits = {3, 3};
  EXPECT_THROW(fit_transforms({1}, model.inputs, shape, settings), UsageError);
}

class TransformsFile : public testing::Test {
 protected:
  void SetUp() override {
    path_ =
        (std::filesystem::temp_directory_path() /
         ("transforms_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + ".h5"))
            .string();
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string path_;
  const SmallModel model_;
};

TEST_F(TransformsFile, ComesBackAsItWas) {
  for (const BlockKind kind : {BlockKind::rotor, BlockKind::general}) {
    FitSettings settings = small_settings();
    settings.blocks = kind;
    settings.metric = QueryMetric::uniform;
    settings.seed = 5;
    const TransformSet set = model_.fit(1, settings);
    write_transforms(set, path_);
    EXPECT_FALSE(std::filesystem::exists(path_ + ".partial"));
    const TransformSet read = read_transforms(path_);
    expect_equal(set, read);
    EXPECT_EQ(read.head_dim, dim);
    EXPECT_EQ(read.num_kv_heads, 2);
    EXPECT_EQ(read.layers(), (std::vector<std::int64_t>{0, 5}));
    EXPECT_EQ(read.settings.bits, settings.bits);
    EXPECT_EQ(read.settings.blocks, kind);
    EXPECT_EQ(read.settings.metric, QueryMetric::uniform);
    EXPECT_EQ(read.settings.seed, 5U);
    EXPECT_EQ(read.settings.attention_mix, settings.attention_mix);
    EXPECT_EQ(read.rope.inv_freq, set.rope.inv_freq);
    ASSERT_EQ(read.sources.size(), 1U);
    EXPECT_EQ(read.sources[0].source, "a text");
    EXPECT_EQ(read.sources[0].tokens, tokens);
    EXPECT_TRUE(read.fitted_on(std::string(64, 'a')));
    EXPECT_FALSE(read.fitted_on(std::string(64, 'b')));
  }
}

TEST_F(TransformsFile, EqualFitsMakeEqualFiles) {
  const auto bytes_of = [&] {
    std::ifstream file(path_, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  write_transforms(model_.fit(1), path_);
  const std::string first = bytes_of();
  write_transforms(model_.fit(2), path_);
  EXPECT_GT(first.size(), 1000U);
  EXPECT_TRUE(first == bytes_of());
}

TEST_F(TransformsFile, SaysWhatIsMissingOrDoesNotFit) {
  const TransformSet set = model_.fit();
  EXPECT_EQ(set.find(5, 1, 3).bits, 3);
  EXPECT_NE(message_of([&] { set.find(7, 0, 3); }).find("layer 7"), std::string::npos);
  EXPECT_NE(message_of([&] { set.find(5, 0, 4); }).find("present: 2, 3"), std::string::npos);
  EXPECT_NO_THROW(set.check_model(dim, 2, model_.rope));
  EXPECT_NE(message_of([&] { set.check_model(64, 2, model_.rope); }).find("head_dim 12"), std::string::npos);
  EXPECT_NE(message_of([&] { set.check_model(dim, 3, model_.rope); }).find("2 KV heads"), std::string::npos);
  EXPECT_NE(message_of([&] { set.check_model(dim, 2, {}); }).find("rope_inv_freq"), std::string::npos);
  EXPECT_THROW(set.check_model(dim, 2, synthetic_rope(dim, RopeLayout::interleaved)), Error);
  Rope other = model_.rope;
  other.inv_freq[2] *= 1.01;
  EXPECT_THROW(set.check_model(dim, 2, other), Error);
}

TEST_F(TransformsFile, RefusesDamagedFilesInOneLine) {
  EXPECT_NE(message_of([&] { read_transforms(path_); }).find(path_), std::string::npos);  // no such file
  // Writes the fit, spoils it through the HDF5 library, and reads it.
  const TransformSet set = model_.fit();
  const auto refuses = [&](const std::function<void(hid_t)>& spoil, const std::string& named) {
    write_transforms(set, path_);
    {
      const hdf5::Session session;
      const hdf5::File file(H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
      spoil(file.get());
    }
    const std::string message = message_of([&] { read_transforms(path_); });
    EXPECT_NE(message.find(named), std::string::npos) << "'" << message << "' should name " << named;
    EXPECT_NE(message.find(path_), std::string::npos);
    EXPECT_EQ(message.find('\n'), std::string::npos);
  };
  const auto remove = [](const char* name) {
    return [name](hid_t file) { H5Ldelete(file, name, H5P_DEFAULT); };
  };
  const auto overwrite = [](const char* name, double value) {
    return [name, value](hid_t file) {
      const hdf5::Dataset dataset(H5Dopen2(file, name, H5P_DEFAULT));
      const hdf5::Dataspace space(H5Dget_space(dataset.get()));
      std::vector<double> all(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space.get())));
      H5Dread(dataset.get(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data());
      all[3] = value;
      H5Dwrite(dataset.get(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data());
    };
  };
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  refuses([](hid_t file) { H5Adelete(file, "format"); }, "format");
  refuses([](hid_t file) { H5Adelete(file, "centroid_bits"); }, "centroid_bits");
  refuses(remove("/layers/005/centroids"), "/layers/005/centroids");
  refuses(remove("/layers/005/bits_3"), "/layers/005/bits_3");
  refuses(remove("/sources"), "/sources");
  refuses(overwrite("/layers/000/centroids", nan), "centroids");
  refuses(overwrite("/layers/000/bits_2/deviations", -1.0), "deviations");
  refuses(overwrite("/layers/000/bits_2/widths", 8.0), "width of coordinate 3");
  refuses(overwrite("/layers/005/bits_3/triples", 99.0), "layer 0");
  // Another head_dim than the arrays have.
  refuses(
      [](hid_t file) {
        const hdf5::Attribute attribute(H5Aopen(file, "head_dim", H5P_DEFAULT));
        const std::int64_t wrong = 16;
        H5Awrite(attribute.get(), H5T_NATIVE_INT64, &wrong);
      },
      "valid: [2, -1, 16]");
}

}  // namespace
}  // namespace rotorquant::evaluation
