#pragma once
// Bit planes of trellis symbols with mixed widths (the format of calibrated keys).
//
// Coordinates are sorted by descending width, ties by index; plane j holds bit j of the coordinates of width
// > j in that order; planes 0, 1, .. follow each other bit by bit, sum(widths) bits in all, and only the end
// is padded to a byte. Plane 0 is not reversed: registers run through the coordinates in index order and not
// in the order of the plane, so that reversing it would not let them be read off as windows. Equal widths
// make each plane the coordinates in index order.
#include <cstdint>
#include <span>
#include <vector>

namespace rotorquant {

class TrellisPlanes {
 public:
  // widths [dim], each 0..8, dim <= 4096.
  explicit TrellisPlanes(std::span<const std::uint8_t> widths);

  std::int64_t bits() const { return bits_; }
  std::int64_t bytes() const { return (bits_ + 7) / 8; }

  // symbols [dim] with no bits beyond their widths; packed [bytes()].
  void pack(const std::uint8_t* symbols, std::uint8_t* packed) const;
  void unpack(const std::uint8_t* packed, std::uint8_t* symbols) const;

 private:
  std::vector<std::uint16_t> order_;  // [used coordinates], sorted as the planes are
  std::vector<int> plane_sizes_;      // coordinates of each plane
  std::size_t dim_;
  std::int64_t bits_ = 0;
};

}  // namespace rotorquant
