#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <string>

#include "evaluation/report/atomic_file.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

namespace fs = std::filesystem;

class AtomicFile : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              (std::string("atomic_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static std::string content(const fs::path& path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  // The message of the Error that writing to `path` must throw.
  static std::string failure(const std::string& path) {
    try {
      write_file_atomically(path, std::string("text"));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  fs::path folder_;
};

TEST_F(AtomicFile, WritesAndReplaces) {
  const fs::path path = folder_ / "out.txt";
  write_file_atomically(path, std::string("first"));
  write_file_atomically(path, std::string("second"));
  EXPECT_EQ(content(path), "second");
  EXPECT_FALSE(fs::exists(path.string() + ".partial"));
}

TEST_F(AtomicFile, TheFinalNameDoesNotExistWhileWriting) {
  const fs::path path = folder_ / "out.txt";
  write_file_atomically(path, [&](std::ostream& stream) {
    stream << "text";
    stream.flush();
    EXPECT_FALSE(fs::exists(path));
    EXPECT_EQ(content(path.string() + ".partial"), "text");
  });
  EXPECT_EQ(content(path), "text");
}

TEST_F(AtomicFile, AFailureKeepsTheOlderFile) {
  const fs::path path = folder_ / "out.txt";
  write_file_atomically(path, std::string("older"));
  const auto fail = [](std::ostream& stream) {
    stream << "half of";
    throw Error("stopped");
  };
  EXPECT_THROW(write_file_atomically(path, fail), Error);
  EXPECT_EQ(content(path), "older");
  EXPECT_FALSE(fs::exists(path.string() + ".partial"));
}

TEST_F(AtomicFile, ErrorsNameThePathAndTheReason) {
  const std::string missing = (folder_ / "no" / "out.txt").string();
  EXPECT_EQ(failure(missing), "cannot write '" + missing + "': No such file or directory");
  EXPECT_EQ(failure(folder_),
            "cannot write '" + folder_.string() + "': it is a directory; name a file in it");
}

TEST_F(AtomicFile, DevicesAreWrittenInPlace) {
  write_file_atomically("/dev/null", std::string("text"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  EXPECT_EQ(failure("/dev/full"), "cannot write '/dev/full': No space left on device");
}

}  // namespace
}  // namespace rotorquant::evaluation
