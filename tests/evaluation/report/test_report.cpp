#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "evaluation/report/comparisons.hpp"
#include "evaluation/report/report.hpp"
#include "evaluation/report/sample.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;
using testing::sample_comparison;
using testing::sample_run;
using testing::sample_sweep;

std::vector<std::string> names_of(const Json& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) names.push_back(name);
  return names;
}

bool names_a_time_field(const Json& json) {
  if (json.is_object() && (json.contains("time/encode") || json.contains("throughput/decode"))) return true;
  if (!json.is_structured()) return false;
  for (const Json& element : json) {
    if (names_a_time_field(element)) return true;
  }
  return false;
}

TEST(Report, FieldsComeInAFixedOrder) {
  const Json comparisons = Json::array({sample_comparison("key/nmse", "baseline_better", "")});
  const Json report = build_report(sample_run(), sample_sweep(), comparisons, {true});
  EXPECT_EQ(names_of(report), (std::vector<std::string>{"schema", "meta", "datasets", "rows", "cells",
                                                        "comparisons", "skipped"}));
  EXPECT_EQ(names_of(report["meta"]),
            (std::vector<std::string>{"schema", "tool", "version", "git", "argv", "config", "compiler",
                                      "flags", "isa", "cpu", "gpu", "seeds", "metrics", "time"}));
  EXPECT_EQ(
      names_of(report["rows"][0]),
      (std::vector<std::string>{"dataset", "quantizer", "keys", "values", "bits", "device", "bits_per_value",
                                "side_bits_per_value", "side", "stored", "metrics", "by_layer"}));
  EXPECT_EQ(report["schema"], "rotorquant-report/1");
}

TEST(Report, OptionalPartsAreAbsentUnlessWanted) {
  const Json report = build_report(sample_run(), sample_sweep());
  EXPECT_FALSE(report.contains("cells"));
  EXPECT_FALSE(report.contains("comparisons"));
  EXPECT_EQ(report["skipped"][0]["why"], "head_dim 64 is not a multiple of 48");
}

TEST(Report, RowsHoldSettingsSizesAndMetrics) {
  const Json report = build_report(sample_run(), sample_sweep());
  ASSERT_EQ(report["rows"].size(), 2U);
  const Json& row = report["rows"][0];
  EXPECT_EQ(row["quantizer"], "rotorquant:tail=pad");
  EXPECT_EQ(row["values"], "turboquant");
  EXPECT_EQ(row["bits_per_value"], 3.375);
  EXPECT_EQ(row["stored"]["keys"]["fields"], Json::parse(R"({"index": 192, "norm": 32})"));
  EXPECT_EQ(row["stored"]["keys"]["bits_per_value"], 3.5);
  EXPECT_EQ(row["stored"]["values"]["model_floats"], 4096);
  const Json& nmse = row["metrics"]["key/nmse"];
  EXPECT_EQ(names_of(nmse), (std::vector<std::string>{"mean", "std", "min", "max", "worst", "n"}));
  EXPECT_DOUBLE_EQ(nmse["mean"].get<double>(), 0.275);
  EXPECT_EQ(nmse["worst"], Json::parse(R"({"layer": 5, "head": 1, "value": 0.4})"));
  EXPECT_EQ(row["metrics"]["attention/kl"]["missing_cells"], 2);
  EXPECT_FALSE(row["metrics"].contains("output/nmse"));
  EXPECT_EQ(names_of(row["by_layer"]), (std::vector<std::string>{"key/nmse", "attention/kl"}));
  EXPECT_DOUBLE_EQ(row["by_layer"]["key/nmse"][0].get<double>(), 0.2);  // (0.1 + (0.2 + 0.4) / 2) / 2
  EXPECT_DOUBLE_EQ(row["by_layer"]["key/nmse"][1].get<double>(), 0.35);
  EXPECT_TRUE(row["by_layer"]["attention/kl"][0].is_null());
  EXPECT_DOUBLE_EQ(row["by_layer"]["attention/kl"][1].get<double>(), 0.03);
}

TEST(Report, NumbersThatAreNoneAreAbsent) {
  const Json report = build_report(sample_run(), sample_sweep(), Json::array(), {true});
  EXPECT_FALSE(report["datasets"][0]["isotropy"].contains("kurtosis_ratio"));
  EXPECT_EQ(report["datasets"][0]["isotropy"]["eigenvalue_spread_ratio"], 12.5);
  EXPECT_FALSE(report["cells"][0]["metrics"].contains("attention/kl"));
  EXPECT_EQ(report["cells"].size(), 16U);
}

TEST(Report, TextKeepsFullPrecision) {
  SweepResult result = sample_sweep();
  const double awkward = 0.1 + 0.2;
  for (Cell& cell : result.cells) cell.metrics[metric_index("key/nmse")] = awkward;
  const Json back = Json::parse(report_text(build_report(sample_run(), result)));
  EXPECT_EQ(back["rows"][0]["metrics"]["key/nmse"]["max"].get<double>(), awkward);
}

TEST(Report, TextSurvivesPathsThatAreNotUtf8) {
  SweepResult result = sample_sweep();
  result.datasets[0].path = "kv/\xff.h5";
  EXPECT_EQ(Json::parse(report_text(build_report(sample_run(), result)))["datasets"][0]["path"],
            "kv/\uFFFD.h5");
}

TEST(Report, TwoRunsDifferInTimeFieldsOnly) {
  const Json first = build_report(sample_run(), sample_sweep(), Json::array(), {true});
  RunInfo run = sample_run();
  run.argv = {"/opt/rotorquant", "sweep",    "kv/tiny_dump.h5", "--threads=1",
              "--resume",        "--output", "other.json"};
  run.threads = 1;
  run.start += std::chrono::hours(1);
  SweepResult result = sample_sweep();
  result.seconds = 99.0;
  for (Cell& cell : result.cells) {
    cell.encode_seconds *= 3.0;
    cell.decode_seconds *= 5.0;
  }
  const Json second = build_report(run, result, Json::array(), {true});
  EXPECT_NE(first, second);
  EXPECT_EQ(strip_time_fields(first).dump(), strip_time_fields(second).dump());
}

TEST(Report, StrippingRemovesNothingElse) {
  const Json report = build_report(sample_run(), sample_sweep(), Json::array(), {true});
  const Json stripped = strip_time_fields(report);
  EXPECT_TRUE(names_a_time_field(report));
  EXPECT_FALSE(names_a_time_field(stripped));
  EXPECT_FALSE(stripped["meta"].contains("time"));
  Json expected = report;
  expected["meta"].erase("time");
  for (const char* tag : {"time/encode", "time/decode", "throughput/encode", "throughput/decode"}) {
    expected["meta"]["metrics"].erase(tag);
    for (Json& row : expected["rows"]) row["metrics"].erase(tag);
    for (Json& cell : expected["cells"]) cell["metrics"].erase(tag);
  }
  EXPECT_EQ(stripped, expected);
}

TEST(Report, AChangedNumberSurvivesStripping) {
  SweepResult result = sample_sweep();
  result.cells[0].metrics[metric_index("key/nmse")] += 1e-15;
  EXPECT_NE(strip_time_fields(build_report(sample_run(), result)),
            strip_time_fields(build_report(sample_run(), sample_sweep())));
}

TEST(Report, CellsAreOneJsonObjectALine) {
  const std::string path = ::testing::TempDir() + "rotorquant_cells.jsonl";
  write_cells(path, sample_sweep());
  std::ifstream stream(path);
  const Json cells = build_report(sample_run(), sample_sweep(), Json::array(), {true})["cells"];
  std::size_t count = 0;
  for (std::string line; std::getline(stream, line); ++count) EXPECT_EQ(Json::parse(line), cells.at(count));
  EXPECT_EQ(count, cells.size());
  std::filesystem::remove(path);
}

TEST(Provenance, ArgumentsThatCannotChangeNumbersAreLeftOut) {
  EXPECT_EQ(
      deciding_arguments({"./rotorquant", "sweep", "a.h5", "-o", "r.json", "--seeds", "0-9", "-oother.json",
                          "--threads=2", "--quiet", "--cells", "c.jsonl", "--outputs", "--bits", "3"}),
      (std::vector<std::string>{"rotorquant", "sweep", "a.h5", "--seeds", "0-9", "--outputs", "--bits",
                                "3"}));
  EXPECT_TRUE(deciding_arguments({}).empty());
}

TEST(Provenance, UtcTimestampIsIso8601) {
  EXPECT_EQ(utc_timestamp(std::chrono::system_clock::from_time_t(1234567890)), "2009-02-13T23:31:30Z");
}

TEST(Provenance, KnowsTheBuildAndTheMachine) {
  const Json meta = provenance_json(sample_run());
  const std::string revision = meta["git"]["revision"];
  EXPECT_TRUE(revision == "unknown" || revision.find_first_not_of("0123456789abcdef") == std::string::npos);
  EXPECT_EQ(meta["git"]["dirty"].is_null(), revision == "unknown");
  EXPECT_FALSE(meta["compiler"].get<std::string>().empty());
  EXPECT_NE(meta["flags"].get<std::string>().find("-ffp-contract=off"), std::string::npos);
  EXPECT_FALSE(meta["cpu"].get<std::string>().empty());
  EXPECT_TRUE(meta["gpu"].is_null());
}

}  // namespace
}  // namespace rotorquant::evaluation
