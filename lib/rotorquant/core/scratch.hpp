#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace rotorquant {

// Floats on whole cache lines, kept from call to call (as a thread_local object) so that kernels allocate
// nothing once they have run. Contents are unspecified.
class ScratchFloats {
 public:
  // At least `count` floats, valid until the next call. Errors: std::bad_alloc.
  float* reserve(std::int64_t count) {
    if (count > count_) {
      const std::int64_t lines = (count * std::int64_t{sizeof(float)} + line - 1) / line;
      data_.reset(static_cast<float*>(std::aligned_alloc(line, static_cast<std::size_t>(lines * line))));
      count_ = data_ ? count : 0;
      if (!data_) throw std::bad_alloc();
    }
    return data_.get();
  }

 private:
  static constexpr std::int64_t line = 64;  // bytes
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float, Free> data_;
  std::int64_t count_ = 0;
};

}  // namespace rotorquant
