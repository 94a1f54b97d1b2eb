#pragma once
// Queries as integer operands of tensor-core products (mma.m16n8k32): a number is 256 high + low times the
// query's unit, both bytes in -128 .. 127. Eight queries fill an operand: high bytes in rows g, low ones in
// rows g + 8.
#include <cstdint>

#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

// sums += a b; a: row-major 16x32 int8, b: column-major 32x8 int8 (B = signed) or uint8, sums: 16x8 int32,
// each spread over the warp.
template <bool b_signed = true>
__device__ __forceinline__ void multiply_add(int (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
  if constexpr (b_signed) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

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
