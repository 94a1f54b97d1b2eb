#pragma once
// Queries as integer operands of tensor-core products (mma.m16n8k32): a number is 256 high + low times the
// query's unit, both bytes in -128 .. 127. Eight queries fill an operand: high bytes in rows g, low ones in
// rows g + 8.
#include <cstdint>

#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

template <int steps>
struct IntegerQueries {
  std::uint32_t operand[steps][4];
  float unit;
  int sum;  // of the query's integers

  // query: that of row g, or nullptr for zeros. coordinate_of(step, i, j): which one is byte j of register i
  // of the second operand in this lane, i = 0, 1; the four lanes of a query share its coordinates.
  template <typename Place>
  __device__ __forceinline__ void load(const float* query, const Place& coordinate_of) {
    constexpr float largest_integer = 127.0F * 256.0F + 127.0F;
    float values[8 * steps];
    float largest = 0.0F;
#pragma unroll
    for (int c = 0; c < 8 * steps; ++c) {
      values[c] = query != nullptr ? query[coordinate_of(c / 8, c / 4 % 2, c % 4)] : 0.0F;
      largest = fmaxf(largest, fabsf(values[c]));
    }
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 2));
    const float per_unit = fminf(largest_integer / largest, 0x1p126F);  // also of zeros
    unit = 1.0F / per_unit;
    sum = 0;
#pragma unroll
    for (int s = 0; s < steps; ++s) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        std::uint32_t high = 0, low = 0;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int value = __float2int_rn(values[8 * s + 4 * i + j] * per_unit);
          const int upper = (value + 128) >> 8;
          high |= static_cast<std::uint32_t>(upper & 0xFF) << (8 * j);
          low |= static_cast<std::uint32_t>((value - 256 * upper) & 0xFF) << (8 * j);
          sum += value;
        }
        operand[s][2 * i] = high;
        operand[s][2 * i + 1] = low;
      }
    }
    sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
    sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
  }
};

}  // namespace rotorquant::device
