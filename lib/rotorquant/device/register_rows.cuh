#pragma once
// Rows of fp16 or bf16 that a thread holds in registers, two numbers a word.
#include <cstdint>

#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

inline constexpr int register_warps = 4;  // a block
inline constexpr int register_threads = register_warps * warp_size;

// The lower or upper 16-bit number of a word as float32.
template <typename T>
__device__ __forceinline__ float unpack(std::uint32_t word, bool upper) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = *reinterpret_cast<const __half2*>(&word);
    return upper ? __high2float(pair) : __low2float(pair);
  } else {
    return __uint_as_float(upper ? word & 0xFFFF0000U : word << 16);
  }
}
template <typename T>
__device__ __forceinline__ std::uint32_t pack(float first, float second) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = __floats2half2_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
}

}  // namespace rotorquant::device
