#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "evaluation/bench/measure.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

// An operation that takes `seconds` a run by its own account and notes each call in `log`.
BenchOperation scripted(const std::string& name, const std::string& quantizer, std::int64_t bytes,
                        double seconds, std::vector<std::string>& log) {
  return {name,
          quantizer,
          bytes,
          0,
          [&log, name] { log.push_back("check " + name); },
          [&log, name, seconds](int repetitions) {
            log.push_back(name + " " + std::to_string(repetitions));
            return seconds * repetitions;
          }};
}

TEST(Measure, QuartilesInterpolate) {
  const Quartiles one = quartiles({3.0});
  EXPECT_EQ(one.lower, 3.0);
  EXPECT_EQ(one.upper, 3.0);
  const Quartiles four = quartiles({4.0, 1.0, 3.0, 2.0});
  EXPECT_DOUBLE_EQ(four.lower, 1.75);
  EXPECT_DOUBLE_EQ(four.median, 2.5);
  EXPECT_DOUBLE_EQ(four.upper, 3.25);
}

TEST(Measure, RoundsInterleaveAndSamplesLastLongEnough) {
  std::vector<std::string> log;
  BenchGroup group;
  group.operations = {scripted("a", "x", 1, 0.25, log), scripted("b", "y", 1, 1.0, log)};
  const std::vector<Measurement> measured = measure(group, {2, 0.5});
  const std::vector<std::string> expected = {"check a", "a 1", "a 1", "check b", "b 1",
                                             "b 1",     "a 2", "b 1", "a 2",     "b 1"};
  EXPECT_EQ(log, expected);
  EXPECT_EQ(measured[0].repetitions, 2);
  EXPECT_EQ(measured[0].samples, 2);
  EXPECT_DOUBLE_EQ(measured[0].seconds.median, 0.25);
}

TEST(Measure, FractionsAndRatiosAreSpeeds) {
  std::vector<std::string> log;
  BenchGroup group;
  group.operations = {scripted("copy", "", 200, 1.0, log), scripted("read", "", 100, 0.25, log),
                      scripted("encode", "ours", 100, 1.0, log), scripted("encode", "rival", 100, 4.0, log),
                      scripted("decode", "rival", 100, 8.0, log)};
  const std::vector<Measurement> measured = measure(group, {3, 0.0});
  EXPECT_DOUBLE_EQ(measured[2].fraction_of_copy, 0.5);
  EXPECT_DOUBLE_EQ(measured[2].fraction_of_read, 0.25);
  EXPECT_DOUBLE_EQ(measured[0].fraction_of_copy, 1.0);
  ASSERT_EQ(measured[2].over.size(), 1U);
  EXPECT_DOUBLE_EQ(measured[2].over.at("rival"), 4.0);
  EXPECT_DOUBLE_EQ(measured[3].over.at("ours"), 0.25);
  EXPECT_TRUE(measured[4].over.empty());
  group.operations.erase(group.operations.begin());
  EXPECT_TRUE(std::isnan(measure(group, {3, 0.0})[1].fraction_of_copy));
}

TEST(Measure, NothingIsTimedAfterAFailedCheck) {
  std::vector<std::string> log;
  BenchGroup group;
  group.operations = {scripted("a", "x", 1, 1.0, log)};
  group.operations[0].check = [] { throw Error("wrong"); };
  EXPECT_THROW(measure(group, {}), Error);
  EXPECT_TRUE(log.empty());
}

}  // namespace
}  // namespace rotorquant::evaluation
