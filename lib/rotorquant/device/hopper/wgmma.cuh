#pragma once
// Products of a warpgroup (four warps) on the tensor cores of compute capability 9.0 (PTX wgmma.mma_async):
// the left operand in registers, the right one in shared memory, fp16 in and fp32 or fp16 sums, bytes in and
// integer sums, or e4m3 in and fp32 sums.
#include <cstdint>
#include <type_traits>

namespace rotorquant::device {

// Rows of the left operand, which four warps of 16 share, and the inner dimension of one product.
inline constexpr int wgmma_rows = 64;
inline constexpr int wgmma_depth = 16;
inline constexpr int byte_wgmma_depth = 32;  // of operands of bytes

// Right operands lie in blocks of 64 inner indices: for each column n 128 bytes, in which the 16-byte chunk c
// is at c xor (n mod 8) ("128-byte swizzle"). Blocks start at multiples of 1024 bytes.
inline constexpr int operand_block_depth = 64;
inline constexpr int byte_block_depth = 128;  // of operands of bytes
__host__ __device__ constexpr int operand_block_bytes(int columns) {
  return columns * operand_block_depth * 2;
}
// Where inner index k, 0..63, of column n lies in its block, in bytes.
__host__ __device__ constexpr int operand_offset(int n, int k) {
  return 128 * n + (((k / 8) ^ (n % 8)) * 16) + (k % 8) * 2;
}
// The same for bytes, k 0..127.
__host__ __device__ constexpr int byte_operand_offset(int n, int k) {
  return 128 * n + (((k / 16) ^ (n % 8)) * 16) + k % 16;
}

inline constexpr int descriptor_unit = 16;  // bytes that a step of a descriptor's address stands for
// The low half of the descriptor of an operand at this address of shared memory; the high half is the same
// for all.
__device__ __forceinline__ std::uint32_t operand_descriptor(std::uint32_t shared_address) {
  return 1U << 16 | shared_address / descriptor_unit;
}
// What step `step` (16 inner indices, of bytes 32) adds to it.
__host__ __device__ constexpr std::uint32_t operand_step(int columns, int step) {
  constexpr int steps_a_block = operand_block_depth / wgmma_depth;
  return static_cast<std::uint32_t>(step / steps_a_block * operand_block_bytes(columns) +
                                    step % steps_a_block * (wgmma_depth * 2)) /
         16;
}
__device__ __forceinline__ std::uint64_t whole_descriptor(std::uint32_t low) {
  // 128-byte swizzle; eight columns take 1024 bytes.
  constexpr std::uint64_t high = 1U << 30 | 1024 / 16;
  return high << 32 | low;
}

__device__ __forceinline__ void wgmma_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits for this warpgroup's products but the last `pending` groups; their sums are then the program's again.
template <int pending = 0, typename Sum, int count>
__device__ __forceinline__ void wgmma_wait(Sum (&sums)[count]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#pragma unroll
  for (int i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<Sum, float>) {
      asm volatile("" : "+f"(sums[i])::"memory");
    } else {
      asm volatile("" : "+r"(sums[i])::"memory");
    }
  }
}

// sums (+)= a b. a: 64 x 16, this thread's four registers; sums: 64 x columns; lane (g, t) of warp w, g =
// lane / 4, t = lane mod 4, holds sums[4 j + 2 r + i] of row 16 w + g + 8 r and column 8 j + 2 t + i, and in
// a[2 h + r] inner indices 2 t, 2 t + 1 plus 8 h of the same rows. add: 0 starts new sums.
//
// The instruction names each of its registers, so that every width has one of its own: NAMES are those of the
// sums, REST a's four and b, which follow them, and ADD that of add.
//
// Bytes, unsigned: inner indices 32 at a time, in a[2 h + r] those from 4 t + 16 h on.
#define ROTORQUANT_EIGHT(in, i)                                                                     \
  in(sums[i]), in(sums[i + 1]), in(sums[i + 2]), in(sums[i + 3]), in(sums[i + 4]), in(sums[i + 5]), \
      in(sums[i + 6]), in(sums[i + 7])
#define ROTORQUANT_4(in) in(sums[0]), in(sums[1]), in(sums[2]), in(sums[3])
#define ROTORQUANT_16(in) ROTORQUANT_EIGHT(in, 0), ROTORQUANT_EIGHT(in, 8)
#define ROTORQUANT_24(in) ROTORQUANT_16(in), ROTORQUANT_EIGHT(in, 16)
#define ROTORQUANT_32(in) ROTORQUANT_24(in), ROTORQUANT_EIGHT(in, 24)
#define ROTORQUANT_40(in) ROTORQUANT_32(in), ROTORQUANT_EIGHT(in, 32)
#define ROTORQUANT_48(in) ROTORQUANT_40(in), ROTORQUANT_EIGHT(in, 40)
#define ROTORQUANT_64(in) ROTORQUANT_48(in), ROTORQUANT_EIGHT(in, 48), ROTORQUANT_EIGHT(in, 56)
#define ROTORQUANT_NAMES_4 "%0, %1, %2, %3"
#define ROTORQUANT_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define ROTORQUANT_NAMES_24 ROTORQUANT_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define ROTORQUANT_NAMES_32 ROTORQUANT_NAMES_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define ROTORQUANT_NAMES_40 ROTORQUANT_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define ROTORQUANT_NAMES_48 ROTORQUANT_NAMES_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define ROTORQUANT_NAMES_64 \
  ROTORQUANT_NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define ROTORQUANT_REST_4 "{%4, %5, %6, %7}, %8"
#define ROTORQUANT_ADD_4 "%9"
#define ROTORQUANT_REST_16 "{%16, %17, %18, %19}, %20"
#define ROTORQUANT_ADD_16 "%21"
#define ROTORQUANT_REST_24 "{%24, %25, %26, %27}, %28"
#define ROTORQUANT_ADD_24 "%29"
#define ROTORQUANT_REST_32 "{%32, %33, %34, %35}, %36"
#define ROTORQUANT_ADD_32 "%37"
#define ROTORQUANT_REST_40 "{%40, %41, %42, %43}, %44"
#define ROTORQUANT_ADD_40 "%45"
#define ROTORQUANT_REST_48 "{%48, %49, %50, %51}, %52"
#define ROTORQUANT_ADD_48 "%53"
#define ROTORQUANT_REST_64 "{%64, %65, %66, %67}, %68"
#define ROTORQUANT_ADD_64 "%69"
#define ROTORQUANT_WGMMA(name, Sum, out, columns, count, types, modes)                                 \
  __device__ __forceinline__ void name(Sum(&sums)[count], const std::uint32_t(&a)[4], std::uint64_t b, \
                                       int add) {                                                      \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " ROTORQUANT_ADD_##count                            \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns types " {" ROTORQUANT_NAMES_##count \
                 "}, " ROTORQUANT_REST_##count ", p" modes ";\n}\n"                                    \
                 : ROTORQUANT_##count(out)                                                             \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));                      \
  }
#define ROTORQUANT_HALVES(columns, count) \
  ROTORQUANT_WGMMA(wgmma, float, "+f", columns, count, "k16.f32.f16.f16", ", 1, 1, 0")
ROTORQUANT_HALVES("8", 4)
ROTORQUANT_HALVES("64", 32)
ROTORQUANT_HALVES("80", 40)
ROTORQUANT_HALVES("96", 48)
ROTORQUANT_HALVES("128", 64)
#define ROTORQUANT_BYTES(columns, count) \
  ROTORQUANT_WGMMA(wgmma_bytes, std::int32_t, "+r", columns, count, "k32.s32.u8.u8", "")
ROTORQUANT_BYTES("32", 16)
ROTORQUANT_BYTES("48", 24)
ROTORQUANT_BYTES("64", 32)
ROTORQUANT_BYTES("80", 40)
// Inner indices as bytes have them; sums keep about 14 bits of what is added: for a product's small part, and
// before the rest is added to it.
#define ROTORQUANT_E4M3(columns, count) \
  ROTORQUANT_WGMMA(wgmma_e4m3, float, "+f", columns, count, "k32.f32.e4m3.e4m3", ", 1, 1")
ROTORQUANT_E4M3("64", 32)
ROTORQUANT_E4M3("80", 40)
ROTORQUANT_E4M3("96", 48)
// Sums in fp16: two neighbouring columns a register, of row 16 w + g + 8 r sums[2 j + r].
ROTORQUANT_WGMMA(wgmma_half, std::uint32_t, "+r", "64", 16, "k16.f16.f16.f16", ", 1, 1, 0")
#undef ROTORQUANT_E4M3
#undef ROTORQUANT_BYTES
#undef ROTORQUANT_HALVES
#undef ROTORQUANT_WGMMA
#undef ROTORQUANT_ADD_64
#undef ROTORQUANT_REST_64
#undef ROTORQUANT_ADD_48
#undef ROTORQUANT_REST_48
#undef ROTORQUANT_ADD_40
#undef ROTORQUANT_REST_40
#undef ROTORQUANT_ADD_32
#undef ROTORQUANT_REST_32
#undef ROTORQUANT_ADD_24
#undef ROTORQUANT_REST_24
#undef ROTORQUANT_ADD_16
#undef ROTORQUANT_REST_16
#undef ROTORQUANT_ADD_4
#undef ROTORQUANT_REST_4
#undef ROTORQUANT_NAMES_64
#undef ROTORQUANT_NAMES_48
#undef ROTORQUANT_NAMES_40
#undef ROTORQUANT_NAMES_32
#undef ROTORQUANT_NAMES_24
#undef ROTORQUANT_NAMES_16
#undef ROTORQUANT_NAMES_4
#undef ROTORQUANT_64
#undef ROTORQUANT_48
#undef ROTORQUANT_40
#undef ROTORQUANT_32
#undef ROTORQUANT_24
#undef ROTORQUANT_16
#undef ROTORQUANT_4
#undef ROTORQUANT_EIGHT

}  // namespace rotorquant::device
