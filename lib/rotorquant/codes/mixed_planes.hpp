#pragma once
// Bit planes of symbols of mixed widths. Coordinates are put in storage order: descending width, ties by
// index. Plane j holds bit j of the symbols of all coordinates wider than j bits, which in storage order are
// the first ones; the planes follow one another without padding, so that a vector takes exactly the sum of
// its widths.
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/codes/bit_string.hpp"
#include "rotorquant/core/dispatch.hpp"

namespace rotorquant {

inline constexpr int max_width = 8;  // bits of one symbol

// body(width, begin, end) for the positions [begin, end) of each width that has bits, as far as they lie in
// [first, last): widest first, the width as a compile-time number. end_of(width) is one past the last
// position of at least so many bits.
template <typename EndOf, typename Body>
void for_widths(std::int64_t first, std::int64_t last, const EndOf& end_of, const Body& body) {
  for (int width = max_width; width > 0 && first < last; --width) {
    const std::int64_t end = std::min(end_of(width), last);
    if (end <= first) continue;
    dispatch_bits(width, [&](auto own) { body(own, first, end); });
    first = end;
  }
}

class MixedPlanes {
 public:
  // widths [dim], each 0..8.
  explicit MixedPlanes(std::span<const std::uint8_t> widths);

  std::int64_t dim() const { return static_cast<std::int64_t>(order_.size()); }
  std::int64_t bits() const { return bits_; }  // the sum of the widths
  // order()[i] is the coordinate at storage position i; [dim].
  std::span<const std::int32_t> order() const { return order_; }
  // Coordinates of at least `width` bits, width 1..8: storage positions [0, count).
  std::int64_t count_at_least(int width) const { return counts_[static_cast<std::size_t>(width - 1)]; }
  // for_widths() of positions [first, last).
  template <typename Body>
  void for_widths(std::int64_t first, std::int64_t last, const Body& body) const {
    rotorquant::for_widths(
        first, last, [this](int width) { return count_at_least(width); }, body);
  }
  // Symbols need this many bytes of memory, of which those from dim on are scratch: dim rounded up to a
  // multiple of 8.
  std::int64_t symbol_bytes() const { return (dim() + 7) / 8 * 8; }

  // symbols [symbol_bytes()] in storage order, symbol i below 2^width.
  void write(const std::uint8_t* symbols, trellis::BitWriter& writer) const;
  // Reads bits() bits from `bit` on.
  void read(const trellis::BitString& string, std::size_t bit, std::uint8_t* symbols) const;

 private:
  std::vector<std::int32_t> order_;
  std::int64_t counts_[max_width] = {};
  std::int64_t bits_ = 0;
};

}  // namespace rotorquant
