#pragma once
// Bit planes of a vector whose coordinates are in registers: quantization and packing, unpacking and look-up.
// Words hold 32 coordinates of one plane, coordinate c at bit c mod 32; dims are multiples of 16.
#include <cstdint>

#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device {

// Byte i of the result is byte (selector >> 4 i) mod 8 of high:low. Nibbles of the selector are below 8.
__device__ __forceinline__ std::uint32_t permute_bytes(std::uint32_t low, std::uint32_t high,
                                                       std::uint32_t selector) {
  std::uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

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

  // Reads the first `planes` planes of a row of that many.
  __device__ __forceinline__ void read(const std::uint8_t* row, int planes) {
#pragma unroll
    for (int j = 0; j < bits; ++j) {
      if (j >= planes) break;
      const std::uint8_t* const in = row + j * (D / 8);
      if constexpr (D % 128 == 0) {
#pragma unroll
        for (int w = 0; w < words; w += 4) {
          const uint4 four = reinterpret_cast<const uint4*>(in)[w / 4];
          plane[j][w] = four.x, plane[j][w + 1] = four.y, plane[j][w + 2] = four.z, plane[j][w + 3] = four.w;
        }
      } else if constexpr (D % 64 == 0) {
#pragma unroll
        for (int w = 0; w < words; w += 2) {
          const uint2 two = reinterpret_cast<const uint2*>(in)[w / 2];
          plane[j][w] = two.x, plane[j][w + 1] = two.y;
        }
      } else if constexpr (D % 32 == 0) {
#pragma unroll
        for (int w = 0; w < words; ++w) plane[j][w] = reinterpret_cast<const std::uint32_t*>(in)[w];
      } else {
#pragma unroll
        for (int w = 0; w < words; ++w) {
          const auto* const halves = reinterpret_cast<const std::uint16_t*>(in);
          plane[j][w] =
              halves[2 * w] | (2 * w + 1 < D / 16 ? static_cast<unsigned>(halves[2 * w + 1]) << 16 : 0U);
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

// Centroids as bytes of float32, byte j of entries 0..3 and 4..7: a byte permutation looks four of them up at a time.
// bits <= 3: all centroids; bits = 4: the positive ones of a codebook symmetric about 0.
struct CentroidBytes {
  std::uint32_t low[4];
  std::uint32_t high[4];
};

// x[32 w ..] = centroids of word w's indices.
template <int D, int bits>
__device__ __forceinline__ void look_up_word(const PlaneWords<D, 4>& codes, const CentroidBytes& table, int w,
                                             float (&x)[D]) {
  constexpr int looked_up = bits == 4 ? 3 : bits;
  const std::uint32_t negative = ~codes.plane[bits - 1][w];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    // Nibble i: the index of coordinate 4 i + k of the word.
    std::uint32_t nibbles = 0;
#pragma unroll
    for (int j = 0; j < looked_up; ++j) {
      const std::uint32_t plane = bits == 4 ? codes.plane[j][w] ^ negative : codes.plane[j][w];
      const std::uint32_t moved = k >= j ? plane >> (k - j) : plane << (j - k);
      nibbles |= moved & (0x11111111U << j);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (32 * w + 16 * half >= D) break;
      const std::uint32_t selector = nibbles >> (16 * half);
      std::uint32_t bytes[4];
#pragma unroll
      for (int b = 0; b < 4; ++b) bytes[b] = permute_bytes(table.low[b], table.high[b], selector);
      const std::uint32_t low01 = permute_bytes(bytes[0], bytes[1], 0x5140);
      const std::uint32_t low23 = permute_bytes(bytes[0], bytes[1], 0x7362);
      const std::uint32_t high01 = permute_bytes(bytes[2], bytes[3], 0x5140);
      const std::uint32_t high23 = permute_bytes(bytes[2], bytes[3], 0x7362);
      const std::uint32_t value[4] = {
          permute_bytes(low01, high01, 0x5410), permute_bytes(low01, high01, 0x7632),
          permute_bytes(low23, high23, 0x5410), permute_bytes(low23, high23, 0x7632)};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int c = 16 * half + 4 * i + k;
        std::uint32_t word = value[i];
        if (bits == 4) word |= (negative << (31 - c)) & 0x80000000U;
        x[32 * w + c] = __uint_as_float(word);
      }
    }
  }
}

}  // namespace rotorquant::device
