#pragma once
// Queries after RoPE, turned back to the positions of the keys that a warpgroup meets, as right operands
// (wgmma.cuh) of products with keys. A thread has the pairs of one frequency of some of the queries: it turns
// them on from round to round.
#include <cuda_fp16.h>

#include "rotorquant/device/hopper/key_bits.cuh"
#include "rotorquant/device/hopper/wgmma.cuh"
#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

inline constexpr int warpgroup_threads = 4 * warp_size;
inline constexpr int query_columns = 8;  // columns of the operand

// Cosine and sine of so many whole turns.
__device__ __forceinline__ float2 turn_of(double turns) {
  float2 turn;
  sincospif(static_cast<float>(2.0 * (turns - rint(turns))), &turn.y, &turn.x);
  return turn;
}
__device__ __forceinline__ float2 turn_back(float2 pair, float2 turn) {
  return {pair.x * turn.x + pair.y * turn.y, pair.y * turn.x - pair.x * turn.y};
}

struct QueryHeads {
  const float* queries;  // [heads * per_head, D]
  int per_head;          // 1..8
  const int*
      order;  // [D] coordinate at each place: pair f of block f / 32 at 64 (f / 32) + f mod 32 and 32 further
  const double* turns;  // [D / 2] turns a position
};

template <int D>
class TurnedQueries {
 public:
  static constexpr int operand_bytes = D / operand_block_depth * operand_block_bytes(query_columns);

  // thread: of the warpgroup. From one round to the next positions rise by `stride`.
  __device__ TurnedQueries(const QueryHeads& heads, int thread, int stride)
      : thread_(static_cast<unsigned>(thread)) {
    const double turns = __ldg(heads.turns + frequency());
    lift_ = turn_of(16.0 * turns);
    step_ = turn_of(stride * turns);
    const int block = frequency() / 32 * operand_block_bytes(query_columns);
    places_[0] = kept(block + operand_offset(first(), frequency() % 32));
    places_[1] = kept(block + operand_offset(first(), frequency() % 32 + 32));
  }

  // Columns of no query are zeros. Before the first round, for every operand.
  static __device__ __forceinline__ void clear(std::uint8_t* operand, int thread) {
    for (int i = thread; i < operand_bytes / 16; i += warpgroup_threads)
      reinterpret_cast<uint4*>(operand)[i] = make_uint4(0, 0, 0, 0);
  }
  // To a position: exactly, or from that of the round before.
  __device__ __forceinline__ void move_to(const QueryHeads& heads, std::int64_t head, std::int64_t position) {
    const float2 back = turn_of(static_cast<double>(position) * __ldg(heads.turns + frequency()));
    const int* const members = heads.order + frequency() / 32 * 64 + frequency() % 32;
    const int a = __ldg(members), b = __ldg(members + 32);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int q = first() + i * apart;
      if (q >= heads.per_head) break;
      const float* const row = heads.queries + (head * heads.per_head + q) * D;
      state_[i] = turn_back({__ldg(row + a), __ldg(row + b)}, back);
    }
  }
  __device__ __forceinline__ void move_on() {
#pragma unroll
    for (int i = 0; i < count; ++i) state_[i] = turn_back(state_[i], step_);
  }
  // To the operand of the position, and behind it that of the position 16 further.
  __device__ __forceinline__ void store(const QueryHeads& heads, std::uint8_t* operands) const {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if (first() + i * apart >= heads.per_head) break;
      const float2 lifted = turn_back(state_[i], lift_);
      // The column's number is in other bits than the first one's, both as a place and as a swizzle.
      constexpr int a_column = operand_offset(1, 0);
      std::uint8_t* const low = operands + (places_[0] ^ i * apart * a_column);
      std::uint8_t* const high = operands + (places_[1] ^ i * apart * a_column);
      *reinterpret_cast<__half*>(low) = __float2half_rn(state_[i].x);
      *reinterpret_cast<__half*>(high) = __float2half_rn(state_[i].y);
      *reinterpret_cast<__half*>(low + operand_bytes) = __float2half_rn(lifted.x);
      *reinterpret_cast<__half*>(high + operand_bytes) = __float2half_rn(lifted.y);
    }
  }

 private:
  static constexpr int apart = 2 * warpgroup_threads / D, count = query_columns / apart;
  __device__ __forceinline__ int frequency() const {
    return static_cast<int>(thread_ % (D / 2));
  }
  __device__ __forceinline__ int first() const {
    return static_cast<int>(thread_ / (D / 2));
  }

  unsigned thread_;
  int places_[2];       // of the pair's members in an operand, for the first query
  float2 lift_, step_;  // turns of 16 positions and of a round
  float2 state_[count];
};

}  // namespace rotorquant::device
