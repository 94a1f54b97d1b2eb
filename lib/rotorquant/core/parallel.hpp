#pragma once
// Parallel loops over independent items. Results never depend on the number of threads: an item writes only
// its own output, and reductions are made afterwards in item order.
#include <omp.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_acquire(void* place);
extern "C" void __tsan_release(void* place);
#endif

namespace rotorquant {

// What a parallel loop orders, for the thread sanitizer, which does not see into OpenMP's runtime: what came
// before publish(place) has happened before what follows observe(place).
inline void publish([[maybe_unused]] void* place) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(place);
#endif
}
inline void observe([[maybe_unused]] void* place) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(place);
#endif
}

// Where and how an operation runs. `threads` >= 1 bounds the CPU threads of one call.
struct Context {
  int threads = 1;
};

inline int available_threads() {
  return omp_get_max_threads();
}

// Calls body(begin, end) on consecutive chunks of [0, count), `grain` items each, dealt to the threads in
// their order as threads come free: when a chunk begins, all before it have begun. After an exception no more
// begin; the first (in chunk order) is rethrown once all threads are done.
template <typename Body>
void parallel_chunks(const Context& context, std::int64_t count, std::int64_t grain, const Body& body) {
  const std::int64_t chunks = (count + grain - 1) / grain;
  if (chunks <= 1 || context.threads <= 1) {
    for (std::int64_t c = 0; c < chunks; ++c)
      body(c * grain, c * grain + grain < count ? c * grain + grain : count);
    return;
  }
  std::mutex failing;
  std::exception_ptr failure;
  std::int64_t failed_chunk = chunks;
  // Not an OpenMP loop, whose schedules promise no order. Relaxed: chunks are not ordered among themselves.
  std::atomic<std::int64_t> next = 0;
  publish(&failure);
#pragma omp parallel num_threads(context.threads)
  {
    observe(&failure);
    for (std::int64_t c; (c = next.fetch_add(1, std::memory_order_relaxed)) < chunks;) {
      try {
        body(c * grain, c * grain + grain < count ? c * grain + grain : count);
      } catch (...) {
        next.store(chunks, std::memory_order_relaxed);
        const std::scoped_lock lock(failing);
        if (c < failed_chunk) {
          failed_chunk = c;
          failure = std::current_exception();
        }
      }
    }
    publish(&failed_chunk);  // another place, for the same reason
  }
  observe(&failed_chunk);
  if (failure) std::rethrow_exception(failure);
}

// Calls body(i) for every i in [0, count).
template <typename Body>
void parallel_for(const Context& context, std::int64_t count, const Body& body) {
  parallel_chunks(context, count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace rotorquant
