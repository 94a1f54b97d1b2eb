#include "rotorquant/codes/trellis_planes.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "rotorquant/codes/bit_string.hpp"
#include "rotorquant/codes/trellis.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

// A plane is moved eight symbols at a time, so that the last group may reach beyond the last symbol.
using SortedSymbols = std::array<std::uint8_t, max_trellis_dim + 8>;

}  // namespace

TrellisPlanes::TrellisPlanes(std::span<const std::uint8_t> widths) : dim_(widths.size()) {
  if (widths.empty() || widths.size() > max_trellis_dim) {
    throw Error("trellis planes of " + std::to_string(widths.size()) +
                " coordinates are not supported; valid: 1.." + std::to_string(max_trellis_dim));
  }
  for (std::size_t t = 0; t < widths.size(); ++t) {
    if (widths[t] > max_trellis_width) {
      throw Error("width " + std::to_string(widths[t]) + " of coordinate " + std::to_string(t) +
                  " of trellis planes is not supported; valid: 0..8");
    }
    if (widths[t] > 0) order_.push_back(static_cast<std::uint16_t>(t));
  }
  std::ranges::stable_sort(order_, [&](std::uint16_t a, std::uint16_t b) { return widths[a] > widths[b]; });
  for (int plane = 0; plane < max_trellis_width; ++plane) {
    const auto size = std::ranges::count_if(widths, [&](std::uint8_t width) { return width > plane; });
    if (size == 0) break;
    plane_sizes_.push_back(static_cast<int>(size));
    bits_ += size;
  }
}

void TrellisPlanes::pack(const std::uint8_t* symbols, std::uint8_t* packed) const {
  SortedSymbols sorted;
  for (std::size_t i = 0; i < order_.size(); ++i) sorted[i] = symbols[order_[i]];
  std::fill_n(sorted.begin() + static_cast<std::ptrdiff_t>(order_.size()), 8, std::uint8_t{0});
  trellis::BitWriter writer(packed);
  for (std::size_t plane = 0; plane < plane_sizes_.size(); ++plane) {
    writer.append_plane(sorted.data(), plane_sizes_[plane], static_cast<int>(plane));
  }
  writer.finish();
}

void TrellisPlanes::unpack(const std::uint8_t* packed, std::uint8_t* symbols) const {
  SortedSymbols sorted;
  std::fill_n(sorted.begin(), order_.size() + 8, std::uint8_t{0});
  const trellis::BitString string{packed, static_cast<std::size_t>(bytes())};
  std::size_t offset = 0;
  for (std::size_t plane = 0; plane < plane_sizes_.size(); ++plane) {
    trellis::read_plane(string, offset, sorted.data(), plane_sizes_[plane], static_cast<int>(plane));
    offset += static_cast<std::size_t>(plane_sizes_[plane]);
  }
  std::fill_n(symbols, dim_, std::uint8_t{0});
  for (std::size_t i = 0; i < order_.size(); ++i) symbols[order_[i]] = sorted[i];
}

}  // namespace rotorquant
