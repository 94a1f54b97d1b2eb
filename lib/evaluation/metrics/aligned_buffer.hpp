#pragma once
// Scratch memory of float64 that starts on a cache line and never shrinks, so that a reused workspace stops
// allocating.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace rotorquant::evaluation {

class AlignedBuffer {
 public:
  // At least `count` values. The content is unspecified after the buffer has grown, and kept otherwise.
  void reserve(std::int64_t count) {
    if (count <= capacity_) return;
    values_.reset(
        static_cast<double*>(::operator new[](static_cast<std::size_t>(count) * sizeof(double), alignment)));
    capacity_ = count;
  }

  double* data() { return values_.get(); }
  const double* data() const { return values_.get(); }

 private:
  static constexpr std::align_val_t alignment{64};  // bytes: a cache line, and a 512-bit register
  struct Release {
    void operator()(double* values) const { ::operator delete[](values, alignment); }
  };

  std::unique_ptr<double[], Release> values_;
  std::int64_t capacity_ = 0;
};

}  // namespace rotorquant::evaluation
