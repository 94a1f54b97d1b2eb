#pragma once
// Products of bytes on the tensor cores (PTX mma.m16n8k32).
#include <cstdint>

namespace rotorquant::device {

// sums += a b; a: row-major 16x32, b: column-major 32x8, of int8 or uint8 each, sums: 16x8 int32 modulo 2^32,
// all spread over the warp. Lane (g, t), g = lane / 4, t = lane mod 4: byte j of a[2 h + r] is column
// 16 h + 4 t + j of row g + 8 r, byte j of b[h] row 16 h + 4 t + j of column g, and sums[2 r + i] is column
// 2 t + i of row g + 8 r.
template <bool a_signed, bool b_signed>
__device__ __forceinline__ void multiply_bytes(int (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                               std::uint32_t b1) {
#define ROTORQUANT_MMA(a_type, b_type)                             \
  asm("mma.sync.aligned.m16n8k32.row.col.s32." a_type "." b_type   \
      ".s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3]) \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
  if constexpr (a_signed && b_signed) {
    ROTORQUANT_MMA("s8", "s8");
  } else if constexpr (a_signed) {
    ROTORQUANT_MMA("s8", "u8");
  } else if constexpr (b_signed) {
    ROTORQUANT_MMA("u8", "s8");
  } else {
    ROTORQUANT_MMA("u8", "u8");
  }
#undef ROTORQUANT_MMA
}

}  // namespace rotorquant::device
