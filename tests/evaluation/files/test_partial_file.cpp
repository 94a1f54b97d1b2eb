#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "evaluation/files/partial_file.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

class PartialFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("partial_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return (folder_ / "out.json").string(); }
  static void fill(PartialFile& file, const char* text) {
    std::ofstream(file.path()) << text;
    file.created();
  }
  bool exists(const std::string& name) const { return std::filesystem::exists(folder_ / name); }

  std::filesystem::path folder_;
};

TEST_F(PartialFiles, ArePublishedUnderTheirName) {
  {
    PartialFile file(path());
    fill(file, "complete");
    EXPECT_FALSE(exists("out.json"));
    file.publish();
  }
  std::string text;
  std::ifstream(path()) >> text;
  EXPECT_EQ(text, "complete");
  EXPECT_FALSE(exists("out.json.partial"));
}

TEST_F(PartialFiles, VanishUnlessPublished) {
  std::ofstream(path()) << "older";
  {
    PartialFile file(path());
    fill(file, "half");
  }
  EXPECT_FALSE(exists("out.json.partial"));
  EXPECT_TRUE(exists("out.json"));
}

TEST_F(PartialFiles, LeaveAloneWhatTheyDidNotCreate) {
  std::ofstream(path() + ".partial") << "somebody else's";
  { const PartialFile file(path()); }
  EXPECT_TRUE(exists("out.json.partial"));
}

TEST_F(PartialFiles, VanishWhereCreatingThemFailedHalfWay) {
  {
    const PartialFile file(path());
    std::ofstream(file.path()) << "";  // as a library does that then reports an error
  }
  EXPECT_FALSE(exists("out.json.partial"));
}

TEST_F(PartialFiles, SayWhyTheyCannotBePublished) {
  PartialFile file(path());
  fill(file, "complete");
  std::filesystem::create_directories(folder_ / "out.json" / "in the way");
  EXPECT_THROW(file.publish(), Error);
}

TEST_F(PartialFiles, ReplaceNothingButFiles) {
  const std::string pipe = (folder_ / "pipe").string();
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(PartialFile{pipe}, Error);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_THROW(PartialFile{folder_.string()}, Error);
}

using PartialFilesDeathTest = PartialFiles;

TEST_F(PartialFilesDeathTest, AreRemovedByASignalThatEndsTheProcess) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    EXPECT_EXIT(
        {
          std::signal(signal, SIG_DFL);  // which the caller of the tests may have ignored
          PartialFile first(path());
          fill(first, "half");
          PartialFile second((folder_ / "other.h5").string());
          fill(second, "half");
          std::raise(signal);
        },
        testing::KilledBySignal(signal), "");
    EXPECT_FALSE(exists("out.json.partial"));
    EXPECT_FALSE(exists("other.h5.partial"));
  }
}

TEST_F(PartialFiles, RestoreTheHandlersTheyFound) {
  const auto handler = [](int signal) {
    struct sigaction current = {};
    sigaction(signal, nullptr, &current);
    return current.sa_handler;
  };
  ASSERT_EQ(handler(SIGTERM), SIG_DFL);
  {
    PartialFile file(path());
    fill(file, "half");
    EXPECT_NE(handler(SIGTERM), SIG_DFL);
  }
  EXPECT_EQ(handler(SIGTERM), SIG_DFL);
  std::signal(SIGTERM, SIG_IGN);
  {
    PartialFile file(path());
    fill(file, "half");
    EXPECT_EQ(handler(SIGTERM), SIG_IGN) << "not ours to replace";
  }
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace
}  // namespace rotorquant::evaluation
