#include "rotorquant/codes/mixed_planes.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace rotorquant {

MixedPlanes::MixedPlanes(std::span<const std::uint8_t> widths) : order_(widths.size()) {
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](std::int32_t a, std::int32_t b) {
    return widths[static_cast<std::size_t>(a)] > widths[static_cast<std::size_t>(b)];
  });
  for (const std::uint8_t width : widths) {
    bits_ += width;
    for (int w = 0; w < width; ++w) ++counts_[w];
  }
}

void MixedPlanes::write(const std::uint8_t* symbols, trellis::BitWriter& writer) const {
  for (int plane = 0; plane < max_width && counts_[plane] > 0; ++plane) {
    writer.append_plane(symbols, static_cast<int>(counts_[plane]), plane);
  }
}

void MixedPlanes::read(const trellis::BitString& string, std::size_t bit, std::uint8_t* symbols) const {
  std::memset(symbols, 0, static_cast<std::size_t>(symbol_bytes()));
  for (int plane = 0; plane < max_width && counts_[plane] > 0; ++plane) {
    const auto count = static_cast<std::size_t>(counts_[plane]);
    trellis::read_plane(string, bit, symbols, static_cast<int>(count), plane);
    // Whole groups of eight were read: what lies beyond the plane's own coordinates is not theirs.
    bit += count;
    for (std::size_t i = count; i < (count + 7) / 8 * 8; ++i) {
      symbols[i] = static_cast<std::uint8_t>(symbols[i] & ((1U << plane) - 1U));
    }
  }
}

}  // namespace rotorquant
