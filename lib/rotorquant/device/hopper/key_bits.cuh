#pragma once
// Bits of a warp's keys in shared memory, for decoders of calibrated keys.
#include <type_traits>

#include "rotorquant/device/calibrated_tables.cuh"
#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

inline constexpr unsigned all_lanes = 0xFFFFFFFFU;

__device__ __forceinline__ int this_lane() {
  return static_cast<int>(threadIdx.x % warp_size);
}
// A number that is to stay in a register: the compiler would rather compute it again in every round.
template <typename Number>
__device__ __forceinline__ Number kept(Number number) {
  static_assert(sizeof number == 4);
  if constexpr (std::is_floating_point_v<Number>) {
    asm volatile("" : "+f"(number));
  } else {
    asm volatile("" : "+r"(number));
  }
  return number;
}

// Words of a string from bit `bit` on, in shared memory. One more word than that is read.
template <int count>
__device__ __forceinline__ void load_bits(const std::uint8_t* shared, int bit,
                                          std::uint32_t (&words)[count]) {
  const auto* const at = reinterpret_cast<const std::uint32_t*>(shared) + (bit >> 5);
#pragma unroll
  for (int i = 0; i < count; ++i) words[i] = __funnelshift_r(at[i], at[i + 1], static_cast<unsigned>(bit));
}

}  // namespace rotorquant::device
