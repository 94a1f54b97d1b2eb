#pragma once
// Attention over trellis codes of keys and values: a source of attention_kernel.cuh, of memory 5, 2 or 3 bits
// and 64 or 128 coordinates. Pairs of coordinates come from a table of half2 in shared memory and are
// operands as they are (keys) or after an exchange between two keys' (values).
#include <memory>

#include "rotorquant/device/attention_sources.cuh"
#include "rotorquant/device/packed_attention.hpp"
#include "rotorquant/device/trellis_pairs.cuh"
#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant::device {

// nullptr where both are not such trellis codecs. Errors: keys and values that differ in dim or bits.
std::unique_ptr<PackedAttention> make_trellis_attention(const Quantizer& keys, const Quantizer& values,
                                                        int gpu);

template <int D, int bits>
struct TrellisSource {
  static constexpr int dim = D;
  static constexpr int tile = 32;
  static constexpr int stages = 3;
  static constexpr int row_bytes = trellis_row_bytes<D, bits>;
  static constexpr int half_stage = tile * row_bytes;
  static constexpr int stage_bytes = 2 * half_stage;
  static constexpr int table_bytes = sizeof(HalfPairs<bits>);
  static_assert(half_stage % 16 == 0 && table_bytes % 16 == 0);

  struct Parameters {
    const std::uint8_t* codes[2];  // of keys and of values
    float offset[2];               // octaves of their scales
    const HalfPairs<bits>* tables;
    std::int64_t capacity;
  };

  const Parameters& p;
  const std::uint8_t* codes[2];
  const HalfPairs<bits>& tables;

  __device__ TrellisSource(const Parameters& parameters, std::int64_t head, const std::uint8_t* shared)
      : p(parameters), tables(*reinterpret_cast<const HalfPairs<bits>*>(shared)) {
#pragma unroll
    for (int side = 0; side < 2; ++side) codes[side] = p.codes[side] + head * p.capacity * row_bytes;
  }

  __device__ __forceinline__ void fill_tables(std::uint8_t* shared) const {
    for (int i = static_cast<int>(threadIdx.x); i < table_bytes / 16; i += static_cast<int>(blockDim.x)) {
      reinterpret_cast<uint4*>(shared)[i] = __ldg(reinterpret_cast<const uint4*>(p.tables) + i);
    }
  }

  __device__ __forceinline__ void fetch(std::uint8_t* shared, std::int64_t first, int count) const {
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      fetch_rows<half_stage>(shared + side * half_stage, codes[side] + first * row_bytes, count * row_bytes);
    }
    commit_copies();
  }

  __device__ __forceinline__ float query_unit() const {
    return 1.0F;
  }
  static float output_unit(const Parameters&) {
    return 1.0F;
  }

  using Keys = TrellisQuarters<D, bits>;
  using Values = TrellisEighth<D, bits>;
  static __device__ constexpr int query_coordinate(int t, int s, int i) {
    return D / 4 * t + 4 * s + i;
  }
  static __device__ constexpr int output_coordinate(int g, int s, int upper) {
    return D / 8 * g + 2 * s + upper;
  }

  __device__ __forceinline__ void score(const std::uint8_t* shared, int j,
                                        const std::uint32_t (&query)[D / 16][4], float (&sums)[4]) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    Keys keys;
    keys.load(shared + (8 * j + lane / 4) * row_bytes, lane % 4, false);
    float more[4] = {};  // a second chain of products, for one would wait for itself
#pragma unroll
    for (int s = 0; s < D / 16; ++s) {
      const int h = s / 4, c = s % 4 * 4;
      const std::uint32_t b0 = tables.template look_up<16>(keys, h, c, Keys::wide(h, c));
      const std::uint32_t b1 = tables.template look_up<16>(keys, h, c + 2, -1);
      multiply_add(s % 2 == 0 ? sums : more, query[s], b0, b1);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += more[i];
  }

  __device__ __forceinline__ float2 norms_at(const std::uint8_t* rows, int j, float offset) const {
    const std::uint8_t* const row = rows + (8 * j + 2 * static_cast<int>(threadIdx.x % 4)) * row_bytes;
    return make_float2(trellis_scale(row[0], offset), trellis_scale(row[row_bytes], offset));
  }
  __device__ __forceinline__ float2 key_norms(const std::uint8_t* shared, int j) const {
    return norms_at(shared, j, p.offset[0]);
  }
  __device__ __forceinline__ float2 value_norms(const std::uint8_t* shared, int j) const {
    return norms_at(shared + half_stage, j, p.offset[1]);
  }

  __device__ __forceinline__ void accumulate(const std::uint8_t* shared, int u, std::uint32_t b0,
                                             std::uint32_t b1, float (&sums)[D / 16][4]) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    const std::uint8_t* const rows = shared + half_stage + (16 * u + 2 * (lane % 4)) * row_bytes;
    Values values[4];  // keys 2t, 2t + 1, 2t + 8, 2t + 9
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i].load(rows + (i / 2 * 8 + i % 2) * row_bytes, lane / 4);
#pragma unroll
    for (int s = 0; s < D / 16; ++s) {
      std::uint32_t pair[4], a[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        pair[i] = tables.template look_up<D / 8>(values[i], 0, 2 * s, Values::wide(2 * s));
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        a[2 * i] = permute_bytes(pair[2 * i], pair[2 * i + 1], 0x5410);
        a[2 * i + 1] = permute_bytes(pair[2 * i], pair[2 * i + 1], 0x7632);
      }
      multiply_add(sums[s], a, b0, b1);
    }
  }
};

}  // namespace rotorquant::device
