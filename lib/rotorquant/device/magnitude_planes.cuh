#pragma once
// Bit planes of a vector whose coordinates are in registers: quantization and packing by fused multiply-adds alone. Words hold 32
// coordinates of one plane, coordinate c at bit c mod 32; dims are multiples of 16.
#include <cstdint>

namespace rotorquant::device {

template <int D, int bits>
struct PlaneWords {
  static constexpr int words = (D + 31) / 32;
  static constexpr int row_bytes = bits * D / 8;
  std::uint32_t plane[bits][words];

  // row: the vector's code in shared memory, aligned as its size allows.
  __device__ __forceinline__ void write(std::uint8_t* row) const {
#pragma unroll
    for (int j = 0; j < bits; ++j) {
      std::uint8_t* const out = row + j * (D / 8);
      if constexpr (D % 128 == 0) {
#pragma unroll
        for (int w = 0; w < words; w += 4) {
          reinterpret_cast<uint4*>(out)[w / 4] =
              make_uint4(plane[j][w], plane[j][w + 1], plane[j][w + 2], plane[j][w + 3]);
        }
      } else if constexpr (D % 64 == 0) {
#pragma unroll
        for (int w = 0; w < words; w += 2) {
          reinterpret_cast<uint2*>(out)[w / 2] = make_uint2(plane[j][w], plane[j][w + 1]);
        }
      } else if constexpr (D % 32 == 0) {
#pragma unroll
        for (int w = 0; w < words; ++w) reinterpret_cast<std::uint32_t*>(out)[w] = plane[j][w];
      } else {
#pragma unroll
        for (int h = 0; h < D / 16; ++h) {
          reinterpret_cast<std::uint16_t*>(out)[h] =
              static_cast<std::uint16_t>(plane[j][h / 2] >> (h % 2 * 16));
        }
      }
    }
  }
};

// Bit planes of coordinates that come from the last to the first: z = -y, quantized by a codebook symmetric about 0
// whose positive boundaries, on the scale of z, are threshold[1 .. 2^(bits-1) - 1] (index 0 unused). The sign bit of z
// is the top bit of the index; the lower bits count the thresholds below |z|, in the other direction where y is
// negative.
//
// A comparison is a saturated fused multiply-add, 1 if |z| > threshold and else 0, and a second one shifts that bit into a
// float32 that holds 16 of them exactly: both run at full rate, where integer shifts and comparisons do not.
template <int D, int bits>
class PlaneBuilder {
 public:
  static constexpr int thresholds = 1 << (bits - 1);

  explicit __device__ __forceinline__ PlaneBuilder(const float (&threshold)[thresholds]) {
#pragma unroll
    for (int k = 1; k < thresholds; ++k) minus_threshold_[k] = -steep * threshold[k];
  }

  // Coordinate c, a constant once the caller's loop is unrolled; c = D - 1 first, 0 last.
  __device__ __forceinline__ void push(int c, float z) {
    positive_ = __funnelshift_l(__float_as_uint(z), positive_, 1);
    const float magnitude = fabsf(z);
#pragma unroll
    for (int k = 1; k < thresholds; ++k) {
      above_[k] = fmaf(2.0F, above_[k], __saturatef(fmaf(magnitude, steep, minus_threshold_[k])));
    }
    if (c % 16 == 0) close_half_word(c);
  }

  __device__ __forceinline__ void write(std::uint8_t* row) const {
    words_.write(row);
  }

 private:
  // Makes the least difference of two magnitudes exceed 1; norms that fp16 can store times this stay finite.
  static constexpr float steep = 0x1p96F;

  __device__ __forceinline__ void close_half_word(int c) {
    const int w = c / 32;
    // Bit j of the number of thresholds below |z|, for `above` that never rises with k. The low 16 bits of a number
    // of 2^23 and more are its integer's.
#pragma unroll
    for (int j = 0; j < bits - 1; ++j) {
      std::uint32_t count_bit = 0;
#pragma unroll
      for (int k = 1 << j; k < thresholds; k += 1 << j) count_bit ^= __float_as_uint(above_[k] + 0x1p23F);
      if (c % 32 == 16) {
        words_.plane[j][w] = count_bit << 16;
      } else {
        const std::uint32_t upper = w < D / 32 ? words_.plane[j][w] : 0U;
        words_.plane[j][w] = ~(positive_ ^ (upper | (count_bit & 0xFFFFU)));
        if (w == D / 32) words_.plane[j][w] &= 0xFFFFU;
      }
    }
#pragma unroll
    for (int k = 1; k < thresholds; ++k) above_[k] = 0.0F;
    if (c % 32 != 0) return;
    words_.plane[bits - 1][w] = positive_;
    positive_ = 0;
  }

  float minus_threshold_[thresholds];
  std::uint32_t positive_ = 0;
  float above_[thresholds] = {};
  PlaneWords<D, bits> words_;
};

}  // namespace rotorquant::device
