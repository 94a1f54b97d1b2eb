#pragma once
// 2^x of the special function unit.

namespace rotorquant::device {

// To two units in the last place, for x of normal results; 0 below them.
__device__ __forceinline__ float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace rotorquant::device
