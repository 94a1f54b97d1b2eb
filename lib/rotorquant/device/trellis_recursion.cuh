#pragma once
// The recursion of a search for the best path through a trellis, a warp to a pass and a state to a lane: the
// operations of codes/trellis_serial.cpp in its order, each rounded by itself.
#include <bit>

#include "rotorquant/codes/trellis_kernels.hpp"
#include "rotorquant/device/trellis_tables.cuh"
#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device::trellis_search {

using trellis::exhaustive_used;
using trellis::seam_context;
using trellis::steps_between_rebasing;

inline constexpr unsigned all_lanes = 0xFFFFFFFFU;
// Vectors in one pass of the trellis.
inline constexpr int together = 2;

// m and h of r = q and r = q + 2^M. Up to 7 bits they are multiples of 1/64 up to 4, which bfloat16 holds
// exactly.
__host__ __device__ inline uint2 pack_row(const float4& row) {
  const auto halves = [](float upper, float lower) {
    return std::bit_cast<std::uint32_t>(upper) | std::bit_cast<std::uint32_t>(lower) >> 16;
  };
  return make_uint2(halves(row.x, row.y), halves(row.z, row.w));
}
__device__ __forceinline__ float4 unpack_row(uint2 row) {
  return make_float4(__uint_as_float(row.x & 0xFFFF0000U), __uint_as_float(row.x << 16),
                     __uint_as_float(row.y & 0xFFFF0000U), __uint_as_float(row.y << 16));
}

__device__ __forceinline__ int cell_of(const TrellisLevels::Cells& cells, float y) {
  const float position = __fmul_rn(__fsub_rn(y, cells.origin), cells.per_unit);
  return static_cast<int>(fminf(fmaxf(position, 0.0F), cells.last));
}

// d[q] and d[q + 2^M] of a coordinate y, before weights.
__device__ __forceinline__ float2 distortions_of(float y, const float4& row) {
  const float error_a = __fsub_rn(fabsf(__fsub_rn(y, row.x)), row.y);
  const float error_b = __fsub_rn(fabsf(__fsub_rn(y, row.z)), row.w);
  return make_float2(__fmul_rn(error_a, error_a), __fmul_rn(error_b, error_b));
}

__device__ __forceinline__ int state_before(int memory, int state, unsigned survivors) {
  return state >> 1 | static_cast<int>((survivors >> state) & 1U) << (memory - 1);
}

// The first state of least cost.
__device__ __forceinline__ int best_state(float cost) {
  const unsigned least = __reduce_min_sync(all_lanes, __float_as_uint(cost));
  return __ffs(static_cast<int>(__ballot_sync(all_lanes, __float_as_uint(cost) == least))) - 1;
}

// Passes over steps of a Source: a type Step and, for a state q, distortions(step, q) of r = q and r = q +
// 2^M. In trellises of fewer than 32 states lanes repeat each other.
template <int memory, typename Source>
class Recursion {
 public:
  static constexpr int states = 1 << memory;
  using Step = typename Source::Step;

  explicit __device__ Recursion(const Source& source) : source_(source) {}

  // `count` steps for all vectors. survivors[j] [count] may be nullptr.
  __device__ void forward(const Step* const (&steps)[together], int count, float (&cost)[together],
                          std::uint32_t* const (&survivors)[together]) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    for (int base = 0; base < count; base += steps_between_rebasing) {
      const Step* at[together];
#pragma unroll
      for (int j = 0; j < together; ++j) at[j] = steps[j] + base;
      unsigned kept[together] = {};
      const int left = count - base;
      if (left >= steps_between_rebasing) {
        run<steps_between_rebasing>(at, 0, cost, kept);
#pragma unroll
        for (int j = 0; j < together; ++j) {
          // Costs are not negative, so that their bits are in their order.
          const unsigned least = __reduce_min_sync(all_lanes, __float_as_uint(cost[j]));
          cost[j] = __fsub_rn(cost[j], __uint_as_float(least));
        }
      } else {
        int i = 0;
        for (; i + 4 <= left; i += 4) run<4>(at, i, cost, kept);
        for (; i < left; ++i) run<1>(at, i, cost, kept);
      }
#pragma unroll
      for (int j = 0; j < together; ++j) {
        if (survivors[j] != nullptr && lane < steps_between_rebasing && lane < left)
          survivors[j][base + lane] = kept[j];
      }
    }
  }

  // The register from which the closed path over all `count` steps is the cheapest, of each vector.
  __device__ void best_registers(const Step* const (&steps)[together], int count,
                                 int (&seam)[together]) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    float best[together];
#pragma unroll
    for (int j = 0; j < together; ++j) {
      best[j] = INFINITY;
      seam[j] = 0;
    }
    for (int start = 0; start < states; ++start) {
      std::uint32_t* const none[together] = {};
      float cost[together];
#pragma unroll
      for (int j = 0; j < together; ++j) cost[j] = lane % states == start ? 0.0F : INFINITY;
      forward(steps, count, cost, none);
#pragma unroll
      for (int j = 0; j < together; ++j) {
        const float closed = __shfl_sync(all_lanes, cost[j], start);
        if (!(closed < best[j])) continue;
        best[j] = closed;
        seam[j] = start;
      }
    }
  }

 private:
  // One step of the recursion of trellis_kernels.hpp; returns the survivors' word.
  __device__ __forceinline__ unsigned step(const Step& at, int q, float& cost) const {
    const float2 distortion = source_.distortions(at, q);
    const float a = __fadd_rn(__shfl_sync(all_lanes, cost, q >> 1), distortion.x);
    const float b = __fadd_rn(__shfl_sync(all_lanes, cost, (q >> 1) + states / 2), distortion.y);
    cost = fminf(a, b);
    return __ballot_sync(all_lanes, b < a);
  }

  // Steps first .. first + count - 1, unrolled; lane i keeps the survivors of step i.
  template <int count>
  __device__ __forceinline__ void run(const Step* const (&at)[together], int first, float (&cost)[together],
                                      unsigned (&kept)[together]) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
#pragma unroll
    for (int i = 0; i < count; ++i) {
#pragma unroll
      for (int j = 0; j < together; ++j) {
        const unsigned word = step(at[j][first + i], lane % states, cost[j]);
        if (lane == first + i) kept[j] = word;
      }
    }
  }

  const Source& source_;
};

// ORs `bits` in from bit `first` of zeroed words on.
__device__ inline void put_bits(std::uint32_t* words, int first, std::uint32_t bits) {
  atomicOr(words + first / 32, bits << (first % 32));
  if (first % 32 != 0) {
    const std::uint32_t rest = bits >> (32 - first % 32);
    if (rest != 0) atomicOr(words + first / 32 + 1, rest);
  }
}

}  // namespace rotorquant::device::trellis_search
