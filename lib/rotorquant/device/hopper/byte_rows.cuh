#pragma once
// Products whose small part is made of e4m3 numbers, at twice the speed of fp16 ones: rows in both types, and
// a matrix whose second term is e4m3 (SecondTerm::byte).
#include "rotorquant/device/hopper/tensor_layout.cuh"
#include "rotorquant/device/row_fragments.cuh"

namespace rotorquant::device {

// Two words of fp16 numbers as one of e4m3 numbers.
__device__ __forceinline__ std::uint32_t four_bytes(std::uint32_t first, std::uint32_t second) {
  std::uint16_t low, high;
  asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(low) : "r"(first));
  asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(high) : "r"(second));
  return static_cast<std::uint32_t>(high) << 16 | low;
}

// Rows as left operands: fp16, for the matrix's first term, and e4m3, for its second.
template <typename Shape>
struct ByteRows {
  RowOperand<Shape::steps> half;
  std::uint32_t byte[Shape::byte_steps][4];

  // Where words r and 2 + r of the halves' step s are, in step s / 2.
  static constexpr __device__ int byte_word(int s, int r) { return 2 * (s % 2) + r; }

  // From the halves.
  __device__ __forceinline__ void make_bytes() {
    static_assert(Shape::byte_term);
#pragma unroll
    for (int s = 0; s < 2 * Shape::byte_steps; ++s) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        byte[s / 2][byte_word(s, r)] = s < Shape::steps ? four_bytes(half[s][r], half[s][2 + r]) : 0U;
      }
    }
  }
};

// Queues sums (+)= 64 rows x an e4m3 term of a piece's matrix.
template <typename Shape, int piece>
__device__ __forceinline__ void queue_bytes(float (&sums)[Shape::columns / 2], std::uint32_t term,
                                            const std::uint32_t (&rows)[Shape::byte_steps][4], bool add) {
#pragma unroll
  for (int i = 0; i < Shape::piece_byte_steps; ++i) {
    wgmma_e4m3(sums, rows[Shape::step_of(piece, 2 * i) / 2],
               whole_descriptor(term + operand_step(Shape::columns, i)), add || i > 0 ? 1 : 0);
  }
}

// Queues sums (+)= 64 rows x a piece's matrix, the small part first (wgmma_e4m3).
template <typename Shape, int piece>
__device__ __forceinline__ void queue_product(float (&sums)[Shape::columns / 2], std::uint32_t matrix,
                                              const ByteRows<Shape>& rows, bool add) {
  const std::uint32_t first = matrix + piece * Shape::piece_bytes / descriptor_unit;
  queue_bytes<Shape, piece>(sums, first + Shape::term_bytes / descriptor_unit, rows.byte, add);
  wgmma_begin();
#pragma unroll
  for (int i = 0; i < Shape::piece_steps; ++i) {
    wgmma(sums, rows.half[Shape::step_of(piece, i)],
          whole_descriptor(first + operand_step(Shape::columns, i)), 1);
  }
}

// Starts sums = 64 rows x a piece's matrix.
template <typename Shape, int piece>
__device__ __forceinline__ void start_product(float (&sums)[Shape::columns / 2], std::uint32_t matrix,
                                              const ByteRows<Shape>& rows) {
  wgmma_begin();
  queue_product<Shape, piece>(sums, matrix, rows, false);
  wgmma_commit();
}

}  // namespace rotorquant::device
