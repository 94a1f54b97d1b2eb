#pragma once
// Non-owning row-major matrices whose memory space is part of the type, so that a host pointer handed to
// device code does not compile.
#include <cstdint>
#include <type_traits>

namespace rotorquant {

enum class Space { cpu, cuda };

// [rows, cols], contiguous: element (r, c) is data[r * cols + c].
template <typename T, Space S>
struct View {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  constexpr View() = default;
  constexpr View(T* data_, std::int64_t rows_, std::int64_t cols_) : data(data_), rows(rows_), cols(cols_) {}
  template <typename U>
  requires(std::is_same_v<const U, T> && !std::is_const_v<U>) constexpr View(const View<U, S>& other)
      : data(other.data), rows(other.rows), cols(other.cols) {}

  constexpr T* row(std::int64_t r) const { return data + r * cols; }
  constexpr std::int64_t size() const { return rows * cols; }
  // Rows [begin, begin + count).
  constexpr View row_range(std::int64_t begin, std::int64_t count) const { return {row(begin), count, cols}; }
};

template <typename T>
using HostView = View<T, Space::cpu>;
template <typename T>
using DeviceView = View<T, Space::cuda>;

}  // namespace rotorquant
