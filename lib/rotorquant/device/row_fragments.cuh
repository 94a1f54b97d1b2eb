#pragma once
// Sixteen rows of fp16 or bf16 in the registers of a warp, as left operands of its tensor-core products (PTX
// mma.m16n8k16 and, half a step, m16n8k8, fp32 sums), and what their norms need.
//
// Lane (g, t), g = lane / 4, t = lane mod 4: word 2 h + r of a step holds two coordinates of row g + 8 r.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "rotorquant/device/plane_fragments.cuh"
#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

template <int steps>
using RowOperand = std::uint32_t[steps][4];

// Step s: coordinates 16 s .. 16 s + 15. shared: the first row, `pitch` bytes before the next; an odd number
// of 16-byte chunks keeps eight rows in 32 banks.
template <int steps>
__device__ __forceinline__ void load_rows(RowOperand<steps>& rows, const std::uint8_t* shared, int pitch) {
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const auto address =
      static_cast<unsigned>(__cvta_generic_to_shared(shared + lane % 16 * pitch + lane / 16 * 16));
#pragma unroll
  for (int s = 0; s < steps; ++s) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(rows[s][0]), "=r"(rows[s][1]), "=r"(rows[s][2]), "=r"(rows[s][3])
                 : "r"(address + 32 * s)
                 : "memory");
  }
}

template <typename T>
__device__ __forceinline__ float2 unpack_two(std::uint32_t word) {
  if constexpr (std::is_same_v<T, __half>) {
    return __half22float2(*reinterpret_cast<const __half2*>(&word));
  } else {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xFFFF0000U));
  }
}

// sums += a b, 16 inner indices. T: the type of both operands.
template <typename T>
__device__ __forceinline__ void multiply_rows(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                              std::uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>) {
    multiply_add(sums, a, b0, b1);
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}
// The same with half h of a step, 8 inner indices.
template <typename T>
__device__ __forceinline__ void multiply_half(float (&sums)[4], const std::uint32_t (&a)[4], int h,
                                              std::uint32_t b) {
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[2 * h]), "r"(a[2 * h + 1]), "r"(b));
  } else {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[2 * h]), "r"(a[2 * h + 1]), "r"(b));
  }
}

// Whether a norm with this bound on its relative error leaves its 16-bit form in doubt.
__device__ __forceinline__ bool in_doubt(float norm, float uncertainty) {
  return __hne(__float2half_rn(norm * (1.0F - uncertainty)), __float2half_rn(norm * (1.0F + uncertainty)));
}

template <typename Number>
__device__ __forceinline__ Number sum_of_quad(Number sum) {
  sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
  return sum + __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
}

// Norms of rows g and g + 8 as the CPU has them, in float64; the same in all lanes of a row.
template <typename T, int steps>
__device__ __forceinline__ void find_exact_norms(const RowOperand<steps>& rows, float (&norm)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    double sums[2] = {};
#pragma unroll
    for (int s = 0; s < steps; ++s) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float2 two = unpack_two<T>(rows[s][2 * h + r]);
        const double first = two.x, second = two.y;
        sums[0] = fma(first, first, sums[0]);
        sums[1] = fma(second, second, sums[1]);
      }
    }
    norm[r] = static_cast<float>(sqrt(sum_of_quad(sums[0] + sums[1])));
  }
}

// Faster than the exact one, and 2^-23 of the root from it.
__device__ __forceinline__ float square_root(float x) {
  float root;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}

}  // namespace rotorquant::device
