#pragma once
// Scratch memory that starts on a cache line and never shrinks, so that a reused workspace stops allocating.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace rotorquant::evaluation {

template <typename Value>
class AlignedArray {
  static_assert(std::is_trivially_copyable_v<Value> && std::is_trivially_destructible_v<Value>);

 public:
  AlignedArray() = default;
  AlignedArray(AlignedArray&& other) noexcept
      : values_(std::move(other.values_)), capacity_(std::exchange(other.capacity_, 0)) {}
  AlignedArray& operator=(AlignedArray&& other) noexcept {
    values_ = std::move(other.values_);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  // At least `count` values. The content is unspecified after the array has grown, and kept otherwise.
  void reserve(std::int64_t count) {
    if (count <= capacity_) return;
    values_.reset(
        static_cast<Value*>(::operator new[](static_cast<std::size_t>(count) * sizeof(Value), alignment)));
    capacity_ = count;
  }

  Value* data() { return values_.get(); }
  const Value* data() const { return values_.get(); }

 private:
  static constexpr std::align_val_t alignment{64};  // bytes: a cache line, and a 512-bit register
  struct Release {
    void operator()(Value* values) const { ::operator delete[](values, alignment); }
  };

  std::unique_ptr<Value[], Release> values_;
  std::int64_t capacity_ = 0;
};

using AlignedBuffer = AlignedArray<double>;

}  // namespace rotorquant::evaluation
