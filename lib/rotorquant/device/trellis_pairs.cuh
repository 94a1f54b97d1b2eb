#pragma once
// Pairs of neighbouring coordinates of trellis codes (trellis_fragments.cuh) in fp16, in which levels,
// multiples of 1/32 below 4, are exact; and the scales of vectors. Memory 5, 2 or 3 bits.
#include "rotorquant/codes/trellis_value_format.hpp"
#include "rotorquant/device/trellis_fragments.cuh"

namespace rotorquant::device {

// The tables of memory 5.
template <int bits>
struct HalfPairs;
template <int bits>
HalfPairs<bits> make_half_pairs(const TrellisCodebook& codebook);
extern template HalfPairs<2> make_half_pairs<2>(const TrellisCodebook& codebook);
extern template HalfPairs<3> make_half_pairs<3>(const TrellisCodebook& codebook);

// Whether the format has such pairs and 64 or 128 coordinates.
bool has_trellis_pairs(const TrellisValueFormat& format);
// log2 of the scale of code 128.
float scale_octaves(const TrellisValueFormat& format);

template <int bits>
struct HalfPairs {
  std::uint32_t pair[trellis_pairs<bits>];  // in fp16, the first coordinate in the lower half
  std::uint32_t wide[2 * trellis_pairs<bits>];

  // The pair c, c + 1 of run h; `wide`: as in TrellisRuns::offset.
  template <int run>
  __device__ __forceinline__ std::uint32_t look_up(const TrellisRuns<bits>& runs, int h, int c,
                                                   int wide_bit) const {
    return *reinterpret_cast<const std::uint32_t*>(
        reinterpret_cast<const std::uint8_t*>(wide_bit >= 0 ? wide : pair) +
        runs.template offset<2, run>(h, c, wide_bit));
  }
};

// 2^((code - 128) / 16 + offset), 0 for code 0, to 2^-21.
__device__ __forceinline__ float trellis_scale(std::uint32_t code, float offset) {
  return code == 0 ? 0.0F : exp2f(fmaf(static_cast<float>(code), 0.0625F, offset - 8.0F));
}

}  // namespace rotorquant::device
