#pragma once
// Views of stored codes, and the host buffer that owns them.
#include <array>
#include <cstdint>
#include <vector>

#include "rotorquant/codes/code_layout.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant {

inline constexpr std::size_t max_code_arrays = 16;

// Codes of `count` vectors: arrays[a] points to [count, layout.arrays[a].bytes_per_vector()] bytes.
template <typename Byte, Space S>
struct CodesView {
  std::array<Byte*, max_code_arrays> arrays{};
  std::int64_t count = 0;

  constexpr CodesView() = default;
  template <typename Other>
  requires(std::is_same_v<const Other, Byte> &&
           !std::is_const_v<Other>) constexpr CodesView(const CodesView<Other, S>& other)
      : count(other.count) {
    for (std::size_t a = 0; a < max_code_arrays; ++a) arrays[a] = other.arrays[a];
  }
};

template <Space S>
using Codes = CodesView<std::uint8_t, S>;
template <Space S>
using ConstCodes = CodesView<const std::uint8_t, S>;

// Growable host storage of codes.
class CodeBuffer {
 public:
  explicit CodeBuffer(const CodeLayout& layout);
  CodeBuffer(const CodeLayout& layout, std::int64_t count) : CodeBuffer(layout) { append(count); }

  std::int64_t size() const { return count_; }
  std::int64_t bytes() const;
  // Makes room for `count` more vectors and returns the view of these; earlier views become invalid.
  Codes<Space::cpu> append(std::int64_t count);
  // Appends copies of the codes of a buffer of the same layout.
  void append(const CodeBuffer& other);
  Codes<Space::cpu> view() { return range(0, count_); }
  ConstCodes<Space::cpu> view() const;

 private:
  Codes<Space::cpu> range(std::int64_t begin, std::int64_t count);

  std::vector<std::int64_t> strides_;               // bytes a vector, of each array
  std::vector<std::vector<std::uint8_t>> storage_;  // [arrays][count * stride]
  std::int64_t count_ = 0;
};

}  // namespace rotorquant
