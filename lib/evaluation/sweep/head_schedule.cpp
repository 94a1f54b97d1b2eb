#include "evaluation/sweep/head_schedule.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

namespace rotorquant::evaluation {
namespace {

struct Item {
  std::size_t head;
  std::optional<std::size_t> cell;  // none: the head's preparation
};

std::vector<Item> items_in_order(std::span<const std::size_t> cells, std::size_t at_once) {
  std::vector<Item> items;
  const auto prepare = [&](std::size_t begin) {
    for (std::size_t head = begin; head < std::min(begin + at_once, cells.size()); ++head)
      items.push_back({head, std::nullopt});
  };
  prepare(0);
  for (std::size_t begin = 0; begin < cells.size(); begin += at_once) {
    prepare(begin + at_once);
    for (std::size_t head = begin; head < std::min(begin + at_once, cells.size()); ++head) {
      for (std::size_t cell = 0; cell < cells[head]; ++cell) items.push_back({head, cell});
    }
  }
  return items;
}

enum class HeadState { unprepared, prepared, failed };

struct HeadProgress {
  std::atomic<HeadState> state = HeadState::unprepared;
  std::atomic<std::size_t> cells_left = 0;

  void end_preparation(HeadState end) {
    state = end;
    state.notify_all();
  }
};

void prepare(const HeadWork& work, std::size_t head, HeadProgress& progress) {
  try {
    work.prepare(head);
  } catch (...) {
    progress.end_preparation(HeadState::failed);
    throw;
  }
  progress.end_preparation(HeadState::prepared);
}

}  // namespace

void run_ahead(const Context& context, std::span<const std::size_t> cells, std::size_t at_once,
               const HeadWork& work) {
  std::vector<HeadProgress> progress(cells.size());
  for (std::size_t head = 0; head < cells.size(); ++head) progress[head].cells_left = cells[head];
  const std::vector<Item> items = items_in_order(cells, at_once);
  parallel_for(context, static_cast<std::int64_t>(items.size()), [&](std::int64_t i) {
    const auto& [head, cell] = items[static_cast<std::size_t>(i)];
    HeadProgress& own = progress[head];
    if (!cell) return prepare(work, head, own);
    own.state.wait(HeadState::unprepared);  // its preparation has begun: items begin in their order
    if (own.state == HeadState::failed) return;
    work.run(head, *cell);
    if (--own.cells_left == 0) work.release(head);
  });
}

}  // namespace rotorquant::evaluation
