#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "evaluation/report/report_reader.hpp"
#include "evaluation/report/sample.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

class ReportReader : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "rotorquant_reader_" +
            ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json";
  }
  void TearDown() override { std::filesystem::remove(path_); }

  // The message of the Error that reading a file of this content throws.
  std::string failure(const std::string& content) const {
    std::ofstream(path_) << content;
    return failure_of(path_);
  }
  static std::string failure_of(const std::string& path) {
    try {
      read_report(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::string path_;
};

TEST_F(ReportReader, ReadsWhatWasWritten) {
  const auto report = testing::sample_report().json;
  write_report(path_, report);
  EXPECT_EQ(read_report(path_).json, report);
  EXPECT_EQ(read_report(path_).path, path_);
}

TEST_F(ReportReader, ErrorsAreOneLineThatNamesTheFile) {
  EXPECT_EQ(failure_of("no/such.json"), "cannot read report 'no/such.json': No such file or directory");
  EXPECT_EQ(failure_of("/tmp"), "cannot read report '/tmp': it is a directory");
  EXPECT_EQ(failure("{\"schema\": "), "'" + path_ + "' is not valid JSON: error at byte 12");
  EXPECT_EQ(failure(""), "'" + path_ + "' is not valid JSON: error at byte 1");
  EXPECT_EQ(failure("[1, 2]"),
            "'" + path_ + "' is not a report: it has no schema; expected \"rotorquant-report/1\"");
  EXPECT_EQ(failure(R"({"schema": "rotorquant-report/2"})"),
            "'" + path_ +
                "' has schema \"rotorquant-report/2\"; this version reads \"rotorquant-report/1\" and "
                "\"rotorquant-bench/1\"");
  EXPECT_EQ(failure(R"({"schema": "rotorquant-report/1", "meta": {}, "datasets": []})"),
            "report '" + path_ + "' has no 'rows'");
}

TEST_F(ReportReader, MetricsOfARow) {
  const auto report = testing::sample_report().json;
  const auto& row = report["rows"][0];
  const auto nmse = row_metric(row, "key/nmse");
  ASSERT_TRUE(nmse);
  EXPECT_DOUBLE_EQ(nmse->mean, 0.275);
  EXPECT_TRUE(nmse->std);
  EXPECT_EQ(nmse->worst_place, "L5 H1");
  EXPECT_EQ(row_metric(row, stored_size_tag)->mean, 3.375);
  EXPECT_FALSE(row_metric(row, stored_size_tag)->std);
  EXPECT_FALSE(row_metric(row, "output/nmse"));
}

}  // namespace
}  // namespace rotorquant::evaluation
