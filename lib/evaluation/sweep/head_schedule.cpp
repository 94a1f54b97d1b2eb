#include "evaluation/sweep/head_schedule.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>
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

struct HeadProgress {
  std::atomic<bool> done = false;  // with its preparation, or without where an item before it has failed
  std::atomic<std::size_t> cells_left = 0;
};

// The failure of the item that comes first in order, whatever the number of threads.
class FirstFailure {
 public:
  bool before(std::size_t item) const { return item_ < item; }
  void note(std::size_t item, std::exception_ptr failure) {
    const std::scoped_lock lock(mutex_);
    if (item >= item_) return;
    item_ = item;
    failure_ = std::move(failure);
  }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::mutex mutex_;
  std::atomic<std::size_t> item_ = std::numeric_limits<std::size_t>::max();
  std::exception_ptr failure_;
};

}  // namespace

void run_ahead(const Context& context, std::span<const std::size_t> cells, std::size_t at_once,
               const HeadWork& work) {
  std::vector<HeadProgress> progress(cells.size());
  for (std::size_t head = 0; head < cells.size(); ++head) progress[head].cells_left = cells[head];
  const std::vector<Item> items = items_in_order(cells, at_once);
  FirstFailure failure;
  // A cell waits for its head. That cannot last forever where items are begun in their order, which the
  // parallel loop does not promise.
  std::atomic<std::size_t> next = 0;
  parallel_for(context, static_cast<std::int64_t>(items.size()), [&](std::int64_t) {
    const std::size_t item = next++;
    const auto& [head, cell] = items[item];
    HeadProgress& own = progress[head];
    if (cell) own.done.wait(false);
    try {
      if (!failure.before(item)) {
        if (cell) {
          work.run(head, *cell);
          if (--own.cells_left == 0) work.release(head);
        } else {
          work.prepare(head);
        }
      }
    } catch (...) {
      failure.note(item, std::current_exception());
    }
    if (!cell) {
      own.done = true;
      own.done.notify_all();
    }
  });
  failure.rethrow();
}

}  // namespace rotorquant::evaluation
