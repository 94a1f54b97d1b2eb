#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "evaluation/sweep/head_schedule.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr std::size_t at_once = 3;

// What has become of each head, and the most that were prepared and not released at a time.
struct Heads {
  explicit Heads(std::vector<std::size_t> count)
      : cells(std::move(count)), prepared(cells.size()), ran(cells.size()), released(cells.size()) {}

  HeadWork work() {
    return {[this](std::size_t head) {
              ++prepared[head];
              const int now = ++alive;
              for (int known = most_alive; now > known && !most_alive.compare_exchange_weak(known, now);) {
              }
            },
            [this](std::size_t head, std::size_t) {
              if (prepared[head] != 1 || released[head] != 0) ++out_of_order;
              ++ran[head];
            },
            [this](std::size_t head) {
              if (ran[head] != static_cast<int>(cells[head])) ++out_of_order;
              ++released[head];
              --alive;
            }};
  }

  std::vector<std::size_t> cells;
  std::vector<std::atomic<int>> prepared, ran, released;
  std::atomic<int> alive = 0, most_alive = 0, out_of_order = 0;
};

std::vector<std::size_t> uneven_heads() {
  std::vector<std::size_t> cells;
  for (std::size_t head = 0; head < 200; ++head) cells.push_back(1 + head % 7);
  return cells;
}

TEST(HeadSchedule, RunsEveryCellBetweenItsHeadsPreparationAndRelease) {
  for (const int threads : {1, 2, 3, 8}) {
    Heads heads(uneven_heads());
    run_ahead({threads}, heads.cells, at_once, heads.work());
    EXPECT_EQ(heads.out_of_order, 0);
    for (std::size_t head = 0; head < heads.cells.size(); ++head) {
      EXPECT_EQ(heads.prepared[head], 1);
      EXPECT_EQ(heads.ran[head], static_cast<int>(heads.cells[head]));
      EXPECT_EQ(heads.released[head], 1);
    }
    if (threads == 1) {
      EXPECT_EQ(heads.most_alive, static_cast<int>(2 * at_once));
    }
    if (threads <= static_cast<int>(at_once)) {
      EXPECT_LE(heads.most_alive, static_cast<int>(3 * at_once));
    }
  }
}

TEST(HeadSchedule, DoesNothingWithoutHeads) {
  Heads heads({});
  run_ahead({4}, heads.cells, at_once, heads.work());
}

TEST(HeadSchedule, LeavesOutWhatComesAfterAFailure) {
  Heads heads(uneven_heads());
  HeadWork work = heads.work();
  work.run = [](std::size_t, std::size_t) { throw Error("broken"); };
  EXPECT_THROW(run_ahead({1}, heads.cells, at_once, work), Error);
  EXPECT_EQ(std::count(heads.prepared.begin(), heads.prepared.end(), 1), 2 * at_once);
}

TEST(HeadSchedule, EndsWhereCellsAndReleasesFail) {
  for (const int threads : {1, 2, 8}) {
    Heads heads(uneven_heads());
    HeadWork work = heads.work();
    const auto run = work.run;
    work.run = [&](std::size_t head, std::size_t cell) {
      run(head, cell);
      if (head == 5 && cell == 1) throw Error("cell");
    };
    work.release = [&](std::size_t head) {
      if (head >= 6) throw Error("release");
    };
    work.prepare = [&](std::size_t head) {
      if (head >= 12) throw Error("preparation");
      ++heads.prepared[head];
    };
    try {
      run_ahead({threads}, heads.cells, at_once, work);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "cell");  // heads 12.. are prepared beside the cells of heads 6..
    }
    EXPECT_EQ(heads.ran[199], 0);
  }
}

// Waiting cells of heads that are never prepared must not wait for ever.
TEST(HeadSchedule, ThrowsTheFirstFailureInItsOrder) {
  for (const int threads : {1, 2, 8}) {
    for (const std::size_t first : {0, 4, 199}) {
      Heads heads(uneven_heads());
      HeadWork work = heads.work();
      work.prepare = [&](std::size_t head) {
        if (head >= first) throw Error(std::to_string(head));
        ++heads.prepared[head];
      };
      try {
        run_ahead({threads}, heads.cells, at_once, work);
        ADD_FAILURE() << "nothing was thrown";
      } catch (const Error& error) {
        EXPECT_EQ(error.what(), std::to_string(first));
      }
      EXPECT_EQ(heads.out_of_order, 0);
    }
  }
}

}  // namespace
}  // namespace rotorquant::evaluation
