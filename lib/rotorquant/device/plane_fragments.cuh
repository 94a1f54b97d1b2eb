#pragma once
// Codes as operands of tensor-core products (mma.m16n8k16, fp16 in, fp32 sums). Inner products do not mind
// the order of their terms, so that each lane reads whole bytes of the planes and the other operand follows
// the order that results:
//
//   keys    B operand, 16 coordinates x 8 keys. Lane (g, t), g = lane / 4, t = lane mod 4, holds key g and a quarter of its
//           coordinates; step s of D / 16 takes four of them: key_coordinate(t, s, i).
//   values  A operand, 16 coordinates x 16 keys. Lane (g, t) holds keys 2t, 2t+1, 2t+8, 2t+9 and D / 8 coordinates; step
//           s takes two of them: value_coordinate(g, s, 0) in row g of the tile and value_coordinate(g, s, 1) in row g + 8.
//
// Centroids are fp16, looked up four at a time by byte permutations; bits 2..4, D 64 or 128.
#include <cuda_fp16.h>

#include <cstdint>

#include "rotorquant/device/nibbles.cuh"

namespace rotorquant::device {

// sums += a b; a: row-major 16x16 fp16, b: column-major 16x8 fp16, sums: 16x8 fp32, each spread over the
// warp.
__device__ __forceinline__ void multiply_add(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// fp16 centroids by byte: entries 0..3 and 4..7. bits <= 3: all; bits = 4: the positive ones of a codebook
// symmetric about 0.
struct HalfCentroids {
  std::uint32_t low_bytes[2];
  std::uint32_t high_bytes[2];
  float unit;  // a centroid is its fp16 number times this
};

// Four indices of `bits` bits in a word's low half, one a nibble -> the low and high bytes of their
// centroids.
template <int bits>
__device__ __forceinline__ void look_up_four(const HalfCentroids& table, std::uint32_t nibbles,
                                             std::uint32_t negative, std::uint32_t& low,
                                             std::uint32_t& high) {
  low = permute_bytes(table.low_bytes[0], table.low_bytes[1], nibbles);
  high = permute_bytes(table.high_bytes[0], table.high_bytes[1], nibbles);
  // `negative`: nibbles 0 or 1; a permutation of the bytes 00 and 80 makes them sign bits.
  if constexpr (bits == 4) high ^= permute_bytes(0x8000U, 0U, negative);
}

// Nibble i: the index of coordinate 4 i + k of the planes' words. 4 bits: the index among the positive
// centroids.
template <int bits>
__device__ __forceinline__ std::uint32_t gather_nibbles(const std::uint32_t (&plane)[bits], int k) {
  constexpr int looked_up = bits == 4 ? 3 : bits;
  std::uint32_t nibbles = 0;
#pragma unroll
  for (int j = 0; j < looked_up; ++j) {
    const std::uint32_t moved = k >= j ? plane[j] >> (k - j) : plane[j] << (j - k);
    nibbles |= moved & (0x11111111U << j);
  }
  return nibbles;
}

// 4 bits: makes the lower planes those of the magnitude's index and the top plane that of negative numbers.
template <int bits>
__device__ __forceinline__ void fold_signs(std::uint32_t (&plane)[bits]) {
  if constexpr (bits == 4) {
    plane[3] = ~plane[3];
#pragma unroll
    for (int j = 0; j < 3; ++j) plane[j] ^= plane[3];
  }
}

template <int D, int bits>
struct KeyFragments {
  static constexpr int steps = D / 16;
  static constexpr int words = D / 32;

  // Coordinate of element i (0, 1: first register, 2, 3: second) of step s in lane t.
  static __host__ __device__ constexpr int key_coordinate(int t, int s, int i) {
    const int first_k = D == 128 ? 0 : 2 * (t / 2);
    return 32 * (t % words) + 4 * (4 * (s % 2) + i) + first_k + s / 2;
  }

  std::uint32_t plane[bits];

  // row: the key's planes, 4-byte aligned in shared memory.
  __device__ __forceinline__ void load(const std::uint8_t* row, int t) {
#pragma unroll
    for (int j = 0; j < bits; ++j) {
      plane[j] = reinterpret_cast<const std::uint32_t*>(row + j * (D / 8))[t % words];
    }
    fold_signs<bits>(plane);
    if constexpr (D == 64) {
#pragma unroll
      for (int j = 0; j < bits; ++j) plane[j] >>= 2 * (t / 2);
    }
  }
  // Both steps that share nibbles: s = 2 k and 2 k + 1.
  __device__ __forceinline__ void steps_of(const HalfCentroids& table, int k, std::uint32_t (&b)[4]) const {
    const std::uint32_t nibbles = gather_nibbles<bits>(plane, k);
    const std::uint32_t negative = bits == 4 ? (plane[bits - 1] >> k) & 0x11111111U : 0U;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t low, high;
      look_up_four<bits>(table, nibbles >> (16 * half), negative >> (16 * half), low, high);
      b[2 * half] = permute_bytes(low, high, 0x5140);
      b[2 * half + 1] = permute_bytes(low, high, 0x7362);
    }
  }
};

template <int D, int bits>
struct ValueFragments {
  static constexpr int steps = D / 16;  // tiles of 16 coordinates

  // Coordinate of row g (upper = 0) or g + 8 (1) of tile s.
  static __host__ __device__ constexpr int value_coordinate(int g, int s, int upper) {
    // D = 128: lane g has coordinates 16 g .. 16 g + 15, tile s = 2 k + byte; 64: 8 g .. 8 g + 7, s = k.
    return D == 128 ? 16 * g + 8 * (s % 2) + 4 * upper + s / 2 : 8 * g + 4 * upper + s;
  }

  // D = 128: [0] of the keys 2t and 2t + 1, [1] of 2t + 8 and 2t + 9, bytes in the order of the keys and then
  // of the coordinates. D = 64: one word of all four keys.
  static constexpr int words = D / 64;
  std::uint32_t plane[words][bits];

  // tile: planes of 16 keys, `pitch` bytes a key.
  __device__ __forceinline__ void load(const std::uint8_t* tile, int pitch, int g, int t) {
    const std::uint8_t* const first = tile + 2 * t * pitch;
#pragma unroll
    for (int j = 0; j < bits; ++j) {
      if constexpr (D == 128) {
#pragma unroll
        for (int w = 0; w < 2; ++w) {
          const std::uint8_t* const pair = first + 8 * w * pitch + j * 16 + 2 * g;
          const std::uint32_t a = *reinterpret_cast<const std::uint16_t*>(pair);
          const std::uint32_t b = *reinterpret_cast<const std::uint16_t*>(pair + pitch);
          plane[w][j] = permute_bytes(a, b, 0x5140);  // bytes a0 b0 a1 b1
        }
      } else {
        const std::uint8_t* const byte = first + j * 8 + g;
        plane[0][j] = byte[0] | byte[pitch] << 8 | byte[8 * pitch] << 16 | byte[9 * pitch] << 24;
      }
    }
#pragma unroll
    for (int w = 0; w < words; ++w) fold_signs<bits>(plane[w]);
  }

  // Operands of the tiles that share nibbles: D = 128: s = 2 k and 2 k + 1; D = 64: s = k.
  static constexpr int tiles_together = D / 64;
  __device__ __forceinline__ void tiles_of(const HalfCentroids& table, int k,
                                           std::uint32_t (&a)[tiles_together][4]) const {
#pragma unroll
    for (int w = 0; w < words; ++w) {
      const std::uint32_t nibbles = gather_nibbles<bits>(plane[w], k);
      const std::uint32_t negative = bits == 4 ? (plane[w][bits - 1] >> k) & 0x11111111U : 0U;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t low, high;
        look_up_four<bits>(table, nibbles >> (16 * half), negative >> (16 * half), low, high);
        // Nibbles: coordinates k and 4 + k of the first key, then of the second.
        const std::uint32_t row_g = permute_bytes(low, high, 0x6240);
        const std::uint32_t row_g8 = permute_bytes(low, high, 0x7351);
        const int tile = D == 128 ? half : 0;
        const int pair = D == 128 ? w : half;
        a[tile][2 * pair] = row_g;
        a[tile][2 * pair + 1] = row_g8;
      }
    }
  }
};

}  // namespace rotorquant::device
