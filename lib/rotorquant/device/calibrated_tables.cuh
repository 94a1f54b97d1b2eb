#pragma once
// What the scores of calibrated keys need of a head's codec, as one block of bytes: where each rank's bits are, the inverse transform,
// the centroids and the levels of each width, in fp16.
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/device/calibrated_scores.cuh"

namespace rotorquant::device {

inline constexpr int register_bits = 6;
inline constexpr int zero_values = 1 << register_bits;  // entries that coordinates without bits decode to

// Where a rank's bits and levels are.
struct Place {
  std::uint16_t bit;  // in plane 0, and from the start of every other plane
  std::uint16_t width;
  std::uint32_t values;  // byte offset of the levels of that width
};

// Sizes of the parts of a head's tables, in memory and, with rows that are 16 bytes further apart, in shared memory.
template <int D>
struct HeadLayout {
  static constexpr int row = 2 * D;
  static constexpr int pitch = 2 * D + 16;
  static constexpr int places = static_cast<int>(sizeof(CalibratedHead));
  static constexpr int matrix = places + D * static_cast<int>(sizeof(Place));
  static constexpr int shared_centroids = matrix + D * pitch;
};

// Coordinates in the order of CalibratedHead, and the turns of their pairs.
void order_coordinates(const Rope& rope, int dim, std::vector<int>& order, std::vector<double>& turns);

// The tables of one head, `centroids` of them and value_bytes of levels whatever the head has: all heads' are of one size.
template <int D>
std::vector<std::uint8_t> head_tables(const CalibratedCodec& codec, std::span<const int> order, int centroids,
                                      int value_bytes);

}  // namespace rotorquant::device
