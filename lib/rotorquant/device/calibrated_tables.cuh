#pragma once
// What scores of calibrated keys need of one head's codec, as the bytes that a block has in shared memory:
// the inverse transform as a right operand (hopper/wgmma.cuh), the product that finds levels
// (key_indices.hpp) and the levels, centroids.
//
// Coordinates after the inverse transform come in the order of the pairs that turn together, in blocks of 64:
// first members at f, second ones at f + 32; those that do not turn are paired as they come. Numbers are fp16
// in units of KeyHead::unit.
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "rotorquant/cache/rope.hpp"
#include "rotorquant/device/key_indices.hpp"
#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant::device {

struct KeyHead {
  int upper_bit;  // of a code: where what follows plane 0 begins
  int tail_bit;   // and the tail
  int groups;     // of D bits of what follows plane 0
  int centroid_bit, centroid_bits, scale_bits;
  float scale_step;  // n = 2^((code - 2^(scale_bits - 1)) scale_step), in units
  float unit;
};
static_assert(sizeof(KeyHead) % 16 == 0);

// Where what begins, in bytes.
//
// A centroid's row has the sixteen bytes of lane t's columns 8 j + 2 t and 8 j + 2 t + 1, j = 4 i .. 4 i + 3,
// at 16 (4 i + t), so that four lanes read 64 bytes, half of the banks; a second copy behind it has
// neighbouring runs of 64 bytes change places: eight lanes that read different copies never meet.
struct HeadImage {
  int operand, indices, centroids, head, bytes;

  static constexpr int tables = 0;  // first: addresses in them are then no sums
  // Where the inner indices 16 s .. 16 s + 15 of the 64 columns of block b begin.
  template <int D>
  static __host__ __device__ constexpr int operand_place(int b, int s) {
    return (D / 64 * (s / 4) + b) * 8192 + s % 4 * 32;
  }
  template <int D>
  static constexpr int centroid_pitch = 4 * D;
  template <int D>
  static constexpr int second_copy = 2 * D;
  static constexpr int centroid_place(int column) {
    const int j = column / 8, t = column % 8 / 2;
    return 16 * (4 * (j / 4) + t) + 4 * (j % 4) + column % 2 * 2;
  }
};

void order_coordinates(const Rope& rope, int dim, std::vector<int>& order, std::vector<double>& turns);

// The images of all codecs, which have one layout.
struct HeadImages {
  IndexShape shape;
  HeadImage layout;
  std::vector<std::uint8_t> bytes;  // [codecs, layout.bytes]
};
HeadImages head_images(std::span<const std::shared_ptr<const CalibratedCodec>> codecs,
                       std::span<const int> order);

}  // namespace rotorquant::device
