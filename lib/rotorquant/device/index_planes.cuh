#pragma once
// From rotated coordinates to bit planes where the codebook is symmetric about 0 and has 2 or 3 bits.
//
// The index of y is, for y > 0, 2^(bits-1) plus the number of positive boundaries below |y|; for the others
// all its bits are inverted. 2 bits: the sign of one difference. 3 bits: a parabola G through (t_k, k) at the
// boundaries t_1 .. t_3, so that their number below |y| is floor(G(|y|)): a fused multiply-add that rounds
// down leaves it in the last two bits of a large number. G is w (slope + bend w) with w = |y| step + offset,
// held between 0 and 1: where it starts at 0, and before it falls again.
#include <cmath>
#include <cstdint>
#include <optional>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/device/nibbles.cuh"

namespace rotorquant::device {

struct MagnitudeCurve {
  float step, offset, slope, bend;  // 3 bits
  float threshold;                  // 2 bits

  // Nothing for another width, and where no such parabola rises from the first boundary to beyond the last.
  static std::optional<MagnitudeCurve> of(const Codebook& codebook) {
    const std::size_t half = codebook.centroids.size() / 2;
    const auto boundary = [&](std::size_t k) {
      return static_cast<double>(codebook.boundaries[half - 1 + k]);
    };
    if (codebook.bits() == 2) return MagnitudeCurve{0.0F, 0.0F, 0.0F, 0.0F, codebook.boundaries[half]};
    if (codebook.bits() != 3) return std::nullopt;
    const double first = boundary(1), second = boundary(2), third = boundary(3);
    const double c = (1.0 / (third - second) - 1.0 / (second - first)) / (third - first);
    const double b = 1.0 / (second - first) - c * (first + second);
    const double a = 1.0 - first * (b + c * first);
    const double end = third + 0.5 * (third - second), root = b * b - 4.0 * a * c;
    if (root <= 0.0) return std::nullopt;
    const double begin = -2.0 * a / (b + std::sqrt(root));  // G = 0
    const double range = end - begin;
    const auto at = [&](double y) { return a + y * (b + c * y); };
    // Rising at both ends it rises between them; a number within this of a whole one is on the safe side of
    // it.
    constexpr double margin = 0.05;
    if (b + 2.0 * c * begin <= 0.0 || b + 2.0 * c * end <= 0.0 || at(end) > 4.0 - margin ||
        at(0.0) > 1.0 - margin)
      return std::nullopt;
    return MagnitudeCurve{static_cast<float>(1.0 / range), static_cast<float>(-begin / range),
                          static_cast<float>((b + 2.0 * c * begin) * range),
                          static_cast<float>(c * range * range), 0.0F};
  }
};

// The planes of up to 32 coordinates of one row, an even number, pushed in order.
template <int bits>
class IndexPlanes {
  static_assert(bits == 2 || bits == 3);

 public:
  // What push() wants for a vector of this norm whose coordinates come `scale` times too large.
  static __device__ __forceinline__ float measure(const MagnitudeCurve& curve, float norm, float scale) {
    if constexpr (bits == 2) return curve.threshold * scale * norm;
    return norm > 0.0F ? __fdividef(curve.step / scale, norm) : 0.0F;
  }

  // i: the coordinate's place, mod 2. z: the coordinate times -1; a zero must be +0.
  __device__ __forceinline__ void push(const MagnitudeCurve& curve, float measure, int i, float z) {
    positive_ = __funnelshift_l(__float_as_uint(z), positive_, 1);
    if constexpr (bits == 2) {
      pushed_[0] = __funnelshift_l(__float_as_uint(measure - fabsf(z)), pushed_[0], 1);
    } else {
      const float w = __saturatef(fmaf(fabsf(z), measure, curve.offset));
      const float count = __fmaf_rd(fmaf(w, curve.bend, curve.slope), w, 0x1.8p23F);
      pushed_[i] = __funnelshift_r(pushed_[i], __float_as_uint(count), 2);
    }
  }

  // Bit c of plane j: coordinate c of `count`.
  __device__ __forceinline__ void finish(int count, std::uint32_t (&plane)[bits]) const {
    const int unused = 32 - count;
    plane[bits - 1] = __brev(positive_) >> unused;
    std::uint32_t above[bits - 1];
    if constexpr (bits == 2) {
      above[0] = __brev(pushed_[0]) >> unused;
    } else {
      const std::uint32_t even = pushed_[0] >> unused, odd = pushed_[1] >> unused;
      above[0] = select_bits(0x55555555U, even, odd << 1);
      above[1] = select_bits(0x55555555U, even >> 1, odd);
    }
#pragma unroll
    for (int j = 0; j < bits - 1; ++j) plane[j] = ~(plane[bits - 1] ^ above[j]);
  }

 private:
  std::uint32_t positive_ = 0;
  std::uint32_t pushed_[bits - 1] = {};
};

}  // namespace rotorquant::device
