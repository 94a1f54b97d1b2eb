#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "evaluation/sweep/journal.hpp"
#include "evaluation/sweep/messages.hpp"

namespace rotorquant::evaluation {
namespace {

namespace fs = std::filesystem;
using testing::error_message;
using testing::expect_contains;

constexpr char identity[] = R"({"journal":"test"})";

Cell cell_of(std::int64_t head) {
  Cell cell;
  cell.dataset = 1;
  cell.setting = 2;
  cell.seed = std::numeric_limits<std::uint64_t>::max();
  cell.layer = 29;
  cell.kv_head = head;
  cell.metrics = {1.0 / 3.0, std::numeric_limits<double>::quiet_NaN(), -0.0, 5e-324, 1.7976931348623157e308};
  cell.side = {{"sinks", 4096}, {"other widths", -64}};
  cell.encode_seconds = 0.1;
  cell.decode_seconds = 1e-9;
  return cell;
}

void expect_equal(const Cell& a, const Cell& b) {
  EXPECT_EQ(a.dataset, b.dataset);
  EXPECT_EQ(a.setting, b.setting);
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(a.layer, b.layer);
  EXPECT_EQ(a.kv_head, b.kv_head);
  ASSERT_EQ(a.metrics.size(), b.metrics.size());
  for (std::size_t i = 0; i < a.metrics.size(); ++i) {
    EXPECT_TRUE(a.metrics[i] == b.metrics[i] || (std::isnan(a.metrics[i]) && std::isnan(b.metrics[i]))) << i;
    EXPECT_EQ(std::signbit(a.metrics[i]), std::signbit(b.metrics[i])) << i;
  }
  EXPECT_EQ(a.side, b.side);
  EXPECT_EQ(a.side_bits(), 4032);
  EXPECT_EQ(a.encode_seconds, b.encode_seconds);
  EXPECT_EQ(a.decode_seconds, b.decode_seconds);
}

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = (fs::path(::testing::TempDir()) /
             (std::string("journal_") + ::testing::UnitTest::GetInstance()->current_test_info()->name()))
                .string();
    fs::remove(path_);
  }
  void TearDown() override { fs::remove(path_); }

  // A journal with two finished cells.
  void write_two() const {
    Journal journal(path_, identity, false);
    journal.append(cell_of(0));
    journal.append(cell_of(1));
  }
  std::string content() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void append_text(const std::string& text) const {
    std::ofstream(path_, std::ios::app | std::ios::binary) << text;
  }

  std::string path_;
};

TEST_F(JournalTest, CellsComeBackExactly) {
  write_two();
  const Journal journal(path_, identity, true);
  ASSERT_EQ(journal.restored().size(), 2U);
  expect_equal(journal.restored()[0], cell_of(0));
  expect_equal(journal.restored()[1], cell_of(1));
}

TEST_F(JournalTest, ACellIsOnDiskOnceAppended) {
  Journal journal(path_, identity, false);
  journal.append(cell_of(0));
  // Still open: what a kill at this moment would leave.
  const std::string text = content();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_EQ(text.rfind(identity, 0), 0U);
}

TEST_F(JournalTest, ALineCutShortIsDroppedAndWrittenOver) {
  write_two();
  const std::string whole = content();
  // Killed at any byte of the second cell's line.
  const std::size_t second = whole.rfind('\n', whole.size() - 2) + 1;
  for (std::size_t length = second; length < whole.size(); ++length) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << whole.substr(0, length);
    {
      Journal journal(path_, identity, true);
      ASSERT_EQ(journal.restored().size(), 1U) << length;
      journal.append(cell_of(1));
    }
    ASSERT_EQ(content(), whole) << length;
  }
}

TEST_F(JournalTest, AnIdentityCutShortStartsOver) {
  std::ofstream(path_, std::ios::binary) << std::string(identity).substr(0, 5);
  const Journal journal(path_, identity, false);
  EXPECT_TRUE(journal.restored().empty());
  fs::resize_file(path_, 0);
  EXPECT_TRUE(Journal(path_, identity, true).restored().empty());
}

TEST_F(JournalTest, NothingToResumeIsAFreshStart) {
  {
    Journal journal(path_, identity, true);
    EXPECT_TRUE(journal.restored().empty());
    journal.append(cell_of(0));
  }
  EXPECT_EQ(Journal(path_, identity, true).restored().size(), 1U);
}

TEST_F(JournalTest, ResumedTwiceItKeepsAll) {
  write_two();
  Journal(path_, identity, true).append(cell_of(2));
  const Journal journal(path_, identity, true);
  ASSERT_EQ(journal.restored().size(), 3U);
  expect_equal(journal.restored()[2], cell_of(2));
}

TEST_F(JournalTest, UnfinishedWorkIsNotThrownAwayUnasked) {
  write_two();
  const std::string before = content();
  const std::string message = error_message([&] { Journal(path_, identity, false); });
  expect_contains(message, "journal " + path_);
  expect_contains(message, "--resume");
  EXPECT_EQ(content(), before);
}

TEST_F(JournalTest, AnotherSweepsJournalIsRefused) {
  write_two();
  const std::string before = content();
  const std::string message = error_message([&] { Journal(path_, R"({"journal":"other"})", true); });
  expect_contains(message, "journal " + path_);
  expect_contains(message, "other data, settings or version");
  EXPECT_EQ(content(), before);
}

TEST_F(JournalTest, ADamagedLineIsNamed) {
  for (const char* line :
       {"[1,2", "{}", "[0,0,0]", "", R"(["a",0,0,0,0,[],0,0,0])", R"([0,0,0,0,0,["x"],0,0,0])"}) {
    SCOPED_TRACE(line);
    fs::remove(path_);
    write_two();
    append_text(std::string(line) + "\n[0,0,0,0,0,[],0,0,0]\n");
    const std::string before = content();
    expect_contains(error_message([&] { Journal(path_, identity, true); }), "line 4 is damaged");
    EXPECT_EQ(content(), before);
  }
}

TEST_F(JournalTest, APlaceThatCannotBeWritten) {
  const std::string nowhere = path_ + "/no/journal";
  expect_contains(error_message([&] { Journal(nowhere, identity, false); }),
                  "journal " + nowhere + ": cannot be written: No such file or directory");
}

}  // namespace
}  // namespace rotorquant::evaluation
