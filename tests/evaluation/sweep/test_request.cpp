#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "evaluation/sweep/messages.hpp"
#include "evaluation/sweep/request.hpp"

namespace rotorquant::evaluation {
namespace {

namespace fs = std::filesystem;
using testing::error_message;
using testing::expect_contains;
using testing::usage_message;

using Numbers = std::vector<std::int64_t>;
using Texts = std::vector<std::string>;

class Request : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = (fs::path(::testing::TempDir()) /
             (std::string("request_") + ::testing::UnitTest::GetInstance()->current_test_info()->name() +
              ".json"))
                .string();
  }
  void TearDown() override { fs::remove(path_); }

  SweepRequest read(const std::string& text) const {
    std::ofstream(path_) << text;
    return read_config(path_);
  }

  std::string path_;
};

TEST_F(Request, EveryKey) {
  const SweepRequest request = read(R"({
    "name": "attention", "description": "One sentence.",
    "quantizers": ["rotorquant", "turboquant:rotation=hadamard"],
    "keys": ["turboquant-prod:bits=4"], "values": ["turboquant:bits=2", "identity"],
    "bits": [2, 4], "seeds": [3, 1], "baseline": "turboquant",
    "layers": [5, 17], "heads": [0], "max_tokens": 96, "sinks": 4, "transforms": "t.h5", "min_context": 64, "exact_metrics": true,
    "metrics": ["attention/kl", "key/nmse"]})");
  EXPECT_EQ(request.name, "attention");
  EXPECT_EQ(request.description, "One sentence.");
  EXPECT_EQ(request.quantizers, (Texts{"rotorquant", "turboquant:rotation=hadamard"}));
  EXPECT_EQ(request.keys, (Texts{"turboquant-prod:bits=4"}));
  EXPECT_EQ(request.values, (Texts{"turboquant:bits=2", "identity"}));
  EXPECT_EQ(request.bits, (Numbers{2, 4}));
  EXPECT_EQ(request.seeds, (Numbers{3, 1}));
  EXPECT_EQ(request.baseline, "turboquant");
  EXPECT_EQ(request.layers, (Numbers{5, 17}));
  EXPECT_EQ(request.heads, (Numbers{0}));
  EXPECT_EQ(request.max_tokens, 96);
  EXPECT_EQ(request.sinks, 4);
  EXPECT_EQ(request.transforms, "t.h5");
  EXPECT_EQ(request.min_context, 64);
  EXPECT_TRUE(request.exact_metrics);
  EXPECT_EQ(request.metrics, (Texts{"attention/kl", "key/nmse"}));
}

TEST_F(Request, TextStandsForLists) {
  const SweepRequest request =
      read(R"({"quantizers": "turboquant", "keys": "a", "values": "b", "metrics": "key/nmse",
    "bits": "2-4", "seeds": "0-2,9", "layers": "0,5-6", "heads": 1})");
  EXPECT_EQ(request.quantizers, (Texts{"turboquant"}));
  EXPECT_EQ(request.keys, (Texts{"a"}));
  EXPECT_EQ(request.values, (Texts{"b"}));
  EXPECT_EQ(request.metrics, (Texts{"key/nmse"}));
  EXPECT_EQ(request.bits, (Numbers{2, 3, 4}));
  EXPECT_EQ(request.seeds, (Numbers{0, 1, 2, 9}));
  EXPECT_EQ(request.layers, (Numbers{0, 5, 6}));
  EXPECT_EQ(request.heads, (Numbers{1}));
}

TEST_F(Request, WhatIsNotSaidKeepsItsDefault) {
  EXPECT_EQ(to_json(read("{}")), to_json(SweepRequest{}));
  const SweepRequest request = read(R"({"bits": 8})");
  EXPECT_EQ(request.bits, (Numbers{8}));
  EXPECT_EQ(request.seeds, (Numbers{0}));
  EXPECT_FALSE(request.layers.has_value());
  EXPECT_FALSE(request.heads.has_value());
}

TEST_F(Request, JsonHoldsEveryFieldAndReadsBack) {
  SweepRequest request;
  request.name = "n";
  request.description = "d";
  request.quantizers = {"q", "r"};
  request.keys = {"k"};
  request.values = {"v"};
  request.bits = {5};
  request.seeds = {7, 8};
  request.baseline = "q";
  request.layers = Numbers{1};
  request.heads = Numbers{2};
  request.max_tokens = 3;
  request.sinks = 4;
  request.transforms = "t.h5";
  request.min_context = 6;
  request.exact_metrics = true;
  request.metrics = {"key/nmse"};
  const nlohmann::ordered_json json = to_json(request);
  const nlohmann::ordered_json defaults = to_json(SweepRequest{});
  for (const auto& [key, value] : defaults.items()) EXPECT_NE(json.at(key), value) << key;
  EXPECT_EQ(json.size(), 16U);
  EXPECT_EQ(to_json(read(json.dump())), json);
}

TEST_F(Request, WrongTypesNameKeyValueAndWhatIsValid) {
  const std::vector<std::array<std::string, 3>> cases = {
      {"name", "3", "text"},
      {"description", "[]", "text"},
      {"quantizers", "3", "list of quantizers"},
      {"quantizers", "[3]", "list of quantizers"},
      {"keys", "{}", "list of quantizers"},
      {"values", "null", "list of quantizers"},
      {"bits", "true", "whole numbers"},
      {"bits", "[2.5]", "whole numbers"},
      {"bits", R"(["2"])", "whole numbers"},
      {"seeds", "[1.5]", "whole numbers"},
      {"seeds", "null", "whole numbers"},
      {"baseline", "[]", "text"},
      {"layers", "{}", "whole numbers"},
      {"heads", "0.5", "whole numbers"},
      {"max_tokens", "-1", "a whole number"},
      {"max_tokens", R"("all")", "a whole number"},
      {"sinks", "-4", "a whole number"},
      {"sinks", "4.5", "a whole number"},
      {"transforms", "1", "path of a file"},
      {"min_context", "[64]", "a whole number"},
      {"exact_metrics", "1", "true or false"},
      {"metrics", "[1]", "list of metrics"},
  };
  for (const auto& [key, value, expected] : cases) {
    SCOPED_TRACE(key + ": " + value);
    const std::string message = usage_message([&] { read("{\"" + key + "\": " + value + "}"); });
    expect_contains(message, "config " + path_);
    expect_contains(message, "key '" + key + "' is ");
    expect_contains(message, expected);
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST_F(Request, NumbersOutOfRange) {
  expect_contains(usage_message([&] { read(R"({"bits": [3, 9]})"); }),
                  "bits '3,9': 9 is out of range; valid: 1 to 8");
  expect_contains(usage_message([&] { read(R"({"bits": 0})"); }), "bits '0'");
  expect_contains(usage_message([&] { read(R"({"bits": []})"); }), "bits");
  expect_contains(usage_message([&] { read(R"({"seeds": "5-2"})"); }), "seeds '5-2'");
  expect_contains(usage_message([&] { read(R"({"seeds": [-1]})"); }), "seeds '-1': -1 is out of range");
  expect_contains(usage_message([&] { read(R"({"layers": [18446744073709551615]})"); }), "layers");
}

TEST_F(Request, AnUnknownKeyNamesTheNearest) {
  const std::string message = usage_message([&] { read(R"({"quantisers": ["turboquant"]})"); });
  expect_contains(message, "config " + path_ + ": unknown key 'quantisers'; did you mean 'quantizers'?");
  const nlohmann::ordered_json known = to_json(SweepRequest{});
  for (const auto& [key, value] : known.items()) expect_contains(message, key);
}

TEST_F(Request, FilesThatAreNoConfiguration) {
  expect_contains(error_message([&] { read(R"({"bits": [2})"); }),
                  "config " + path_ + ": not valid JSON at byte");
  expect_contains(error_message([&] { read(""); }), "not valid JSON");
  expect_contains(error_message([&] { read("[1]"); }), "not a JSON object");
  expect_contains(error_message([] { read_config("/no/such/config.json"); }),
                  "/no/such/config.json: cannot be opened");
  expect_contains(error_message([] { read_config(::testing::TempDir()); }), "cannot be read");
}

}  // namespace
}  // namespace rotorquant::evaluation
