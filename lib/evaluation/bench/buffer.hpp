#pragma once
// Page-aligned host memory for benchmarks, in huge pages where the system gives them, so that neither we nor
// the baselines time address translation. Pages are touched first by the threads that use them later.
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "rotorquant/core/parallel.hpp"

namespace rotorquant::evaluation {

class BenchBuffer {
 public:
  BenchBuffer() = default;
  // Zeroed. Errors: std::bad_alloc.
  BenchBuffer(const Context& context, std::int64_t bytes);

  std::uint8_t* data() const { return data_.get(); }
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::uint8_t* data) const { std::free(data); }
  };
  std::unique_ptr<std::uint8_t, Free> data_;
  std::int64_t bytes_ = 0;
};

}  // namespace rotorquant::evaluation
