#pragma once
// Tables of trellis levels in device memory, and those of one value format (codes/trellis_value_format.hpp)
// for its encoder and decoders.
#include <cstdint>
#include <vector>

#include "rotorquant/codes/trellis_value_format.hpp"
#include "rotorquant/device/runtime.cuh"

namespace rotorquant::device {

inline constexpr std::uint8_t no_extra_bit = 0xFF;
inline constexpr int trellis_header_bytes = 2;

// The levels of one symbol width (codes/trellis_levels.hpp). Lane q stands for the states q of the trellis:
// in a cell it needs the midpoints and halves of r = q and r = q + 2^M.
struct TrellisWidthView {
  TrellisLevels::Cells cells;
  int first_row;     // of its cells among the rows
  int first_choice;  // of its cells among the choices
  int first_value;   // among the values
};

// The levels of several widths, one after the other.
struct TrellisLevelArrays {
  std::vector<float> values;          // [2^(width + M)] of each
  std::vector<float4> rows;           // [cells, 2^M] of each: m[q], h[q], m[q + 2^M], h[q + 2^M]
  std::vector<std::uint8_t> choices;  // [cells, 2, 2^(M + 1)] of each

  TrellisWidthView append(const TrellisLevels& levels);
};

struct TrellisView {
  int dim, bits, memory;
  int bytes_per_vector;
  TrellisWidthView width[2];    // of `bits` bits, and of one more
  const std::uint8_t* extra;    // [dim] the bit of byte 1 that widens the coordinate, or no_extra_bit
  const float* scales;          // [256]
  const float* values;          // of both widths, [2^(width + M)] each
  int value_count;              // of both widths
  const float4* rows;           // [cells of both widths, 2^M]: m[q], h[q], m[q + 2^M], h[q + 2^M]
  int row_count;                // 2^M times the cells of both widths
  const std::uint8_t* choices;  // [cells of both widths, 2, 2^(M + 1)]
};

class TrellisTables {
 public:
  explicit TrellisTables(const TrellisValueFormat& format);

  const TrellisView& view() const { return view_; }

 private:
  Buffer<std::uint8_t> extra_, choices_;
  Buffer<float> scales_, values_;
  Buffer<float4> rows_;
  TrellisView view_{};
};

// Bit t of a plane at bit `first` of the planes of a vector in the value format.
__device__ inline unsigned trellis_bit(const std::uint8_t* planes, int bit) {
  return (planes[bit >> 3] >> (bit & 7)) & 1U;
}

}  // namespace rotorquant::device
