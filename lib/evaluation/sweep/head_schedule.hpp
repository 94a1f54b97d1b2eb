#pragma once
// The order of a sweep's work: the next heads are prepared beside the cells of those before them, so that no
// thread waits for the last of a group.
#include <cstddef>
#include <functional>
#include <span>

#include "rotorquant/core/parallel.hpp"

namespace rotorquant::evaluation {

// Called by several threads at once, for different heads or cells.
struct HeadWork {
  std::function<void(std::size_t head)> prepare;
  std::function<void(std::size_t head, std::size_t cell)> run;  // of a head that is prepared
  std::function<void(std::size_t head)> release;                // when the last of its cells has run
};

// cells [heads]: how many each has, > 0. Prepares `at_once` > 0 heads, the next as many, then runs the cells
// of the first, and so on: with as many threads, at most three times as many heads are prepared and not
// released. The first failure in this order is rethrown; after it nothing more begins.
void run_ahead(const Context& context, std::span<const std::size_t> cells, std::size_t at_once,
               const HeadWork& work);

}  // namespace rotorquant::evaluation
