#pragma once
// What the encode and decode kernels of tensor_codec.cuh share: how blocks divide the rows, and the codes of
// a warp's rows in shared memory.
#include <cuda_fp16.h>

#include <utility>

#include "rotorquant/device/hopper/tensor_layout.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device {

inline constexpr int rows_a_warp = wgmma_rows / 4;
inline constexpr int most_tensor_bits = 4;

// Where the thread stands: row g (and g + 8) of its warp's 16, lane t of four.
struct TensorPlace {
  int warp = static_cast<int>(threadIdx.x) / warp_size;
  int lane = static_cast<int>(threadIdx.x) % warp_size;
  int g = lane / 4;
  int t = lane % 4;
};

// The tiles of 64 rows that this warpgroup takes: first, first + stride, ....
template <typename Shape>
struct TensorTiles {
  int part;  // of the pieces that this block makes
  std::int64_t first, stride, end;

  explicit __device__ TensorTiles(std::int64_t n) {
    constexpr int parts = Shape::parts;
    const int block = static_cast<int>(blockIdx.x) / parts, blocks = static_cast<int>(gridDim.x) / parts;
    part = static_cast<int>(blockIdx.x) % parts;
    first = static_cast<std::int64_t>(block) * Shape::groups + threadIdx.x / (4 * warp_size);
    stride = static_cast<std::int64_t>(blocks) * Shape::groups;
    end = (n + wgmma_rows - 1) / wgmma_rows;
  }
};

template <typename Shape>
unsigned tensor_grid(int processors, std::int64_t n) {
  constexpr int parts = Shape::parts, rows = wgmma_rows * Shape::groups;
  const std::int64_t needed = (n + rows - 1) / rows, resident = processors / parts;
  return static_cast<unsigned>(parts * (needed < resident ? needed : resident));
}

// What a block has in shared memory, in this order: the matrix of its pieces, a table of 128 words, codes of
// each warp in as many stages as fit.
template <typename Shape>
struct TensorMemory {
  static constexpr int matrix_bytes = Shape::part_pieces * Shape::piece_bytes;
  static constexpr int table_offset = matrix_bytes;
  static constexpr int code_offset = table_offset + 512;
  // 16 rows with their norms, and what a lane may read past the end of the last.
  static constexpr int norm_offset = rows_a_warp * most_tensor_bits * Shape::dim / 8;
  static constexpr int stage_bytes = norm_offset + rows_a_warp * 2 + 16;
  static constexpr int most_bytes = 227 << 10;
  // Decoded rows on their way out, where lanes do not write them straight from registers.
  static constexpr int result_bytes = Shape::whole_rows ? rows_a_warp * Shape::columns * 2 : 0;
  static constexpr int fitting = ((most_bytes - code_offset) / Shape::warps - result_bytes) / stage_bytes;
  static constexpr int decode_stages = fitting < 4 ? fitting : 4;
  static_assert(decode_stages >= 2);
  static constexpr int decode_warp_bytes = decode_stages * stage_bytes + result_bytes;
  static constexpr int decode_bytes = code_offset + Shape::warps * decode_warp_bytes;
  static constexpr int encode_warp_bytes = stage_bytes + RowTile<rows_a_warp, Shape::dim / 8>::bytes;
  static constexpr int encode_bytes = code_offset + Shape::warps * encode_warp_bytes;
};

// The vectors' dim; whole: that of the shape.
template <typename Shape, bool whole>
__device__ __forceinline__ int dim_of(int dim) {
  return whole ? Shape::dim : dim;
}

// Copies a right operand and makes it visible to tensor cores.
template <typename Shape, int bytes>
__device__ __forceinline__ void load_operand(uint4* shared, const std::uint8_t* operand) {
  const auto* const from = reinterpret_cast<const uint4*>(operand);
  for (int i = static_cast<int>(threadIdx.x); i < bytes / 16; i += Shape::threads) shared[i] = from[i];
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// The same of the matrix of this block's pieces.
template <typename Shape>
__device__ __forceinline__ void load_matrix(uint4* shared, const std::uint8_t* matrix, int part) {
  constexpr int bytes = TensorMemory<Shape>::matrix_bytes;
  load_operand<Shape, bytes>(shared, matrix + part * bytes);
}

// Starts sums = 64 rows x a piece's matrix, both of its terms or the first alone. matrix: the descriptor of
// the block's first piece.
template <typename Shape, int piece, int terms = 2>
__device__ __forceinline__ void start_product(float (&sums)[Shape::columns / 2], std::uint32_t matrix,
                                              const std::uint32_t (&operand)[Shape::steps][4]) {
  wgmma_begin();
#pragma unroll
  for (int i = 0; i < Shape::piece_steps; ++i) {
#pragma unroll
    for (int term = 0; term < terms; ++term) {
      const std::uint32_t at = matrix +
                               (piece * Shape::piece_bytes + term * Shape::term_bytes) / descriptor_unit +
                               operand_step(Shape::columns, i);
      wgmma(sums, operand[Shape::step_of(piece, i)], whole_descriptor(at), i + term == 0 ? 0 : 1);
    }
  }
  wgmma_commit();
}

// Runs a job over this warpgroup's tiles: while the tensor cores make one piece, its threads work on the
// piece before. A job, begun with its first tile, has: prepare<parity>(tile), which makes the left operand of
// an even or odd tile; operand<parity>(); load<parity>(tile), called once that operand is free for the tile
// after next; take<parity, piece>(tile, sums), which uses the results; the piece is one of the block's. Tiles
// may lie past the end.
template <typename Shape, int parity, typename Job>
__device__ __forceinline__ void run_tile(Job& job, float (&sums)[2][Shape::columns / 2], std::uint32_t matrix,
                                         std::int64_t tile, std::int64_t stride) {
  [&]<int... pieces>(std::integer_sequence<int, pieces...>) {
    const auto run_piece = [&]<int piece>() {
      constexpr int own = (parity * Shape::part_pieces + piece) % 2;
      constexpr bool last = piece == Shape::part_pieces - 1;
      if constexpr (last) {
        job.template prepare<1 - parity>(tile + stride);
        start_product<Shape, 0>(sums[1 - own], matrix, job.template operand<1 - parity>());
        job.template load<parity>(tile + 2 * stride);
      } else {
        start_product<Shape, piece + 1>(sums[1 - own], matrix, job.template operand<parity>());
      }
      job.template take<parity, piece>(tile, sums[own]);
      wgmma_wait(sums[1 - own]);
    };
    (run_piece.template operator()<pieces>(), ...);
  }
  (std::make_integer_sequence<int, Shape::part_pieces>{});
}
template <typename Shape, typename Job>
__device__ __forceinline__ void run_tiles(Job& job, const TensorTiles<Shape>& tiles, std::uint32_t matrix) {
  if (tiles.first >= tiles.end) return;
  float sums[2][Shape::columns / 2];
  job.template prepare<0>(tiles.first);
  start_product<Shape, 0>(sums[0], matrix, job.template operand<0>());
  wgmma_wait(sums[0]);
  for (std::int64_t tile = tiles.first; tile < tiles.end; tile += 2 * tiles.stride) {
    run_tile<Shape, 0>(job, sums, matrix, tile, tiles.stride);
    run_tile<Shape, 1>(job, sums, matrix, tile + tiles.stride, tiles.stride);
  }
}

// `bytes` (1 to 4) bytes of shared memory as the low bytes of a word, and back; 2 and 4 divide the address.
template <int bytes>
__device__ __forceinline__ std::uint32_t load_bytes(const std::uint8_t* from) {
  if constexpr (bytes == 4) return *reinterpret_cast<const std::uint32_t*>(from);
  if constexpr (bytes == 2) return *reinterpret_cast<const std::uint16_t*>(from);
  std::uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < bytes; ++i) word |= static_cast<std::uint32_t>(from[i]) << (8 * i);
  return word;
}
template <int bytes>
__device__ __forceinline__ void store_some_bytes(std::uint8_t* to, std::uint32_t word, int count) {
#pragma unroll
  for (int i = 0; i < bytes; ++i) {
    if (i < count) to[i] = static_cast<std::uint8_t>(word >> (8 * i));
  }
}
template <int bytes>
__device__ __forceinline__ void store_bytes(std::uint8_t* to, std::uint32_t word) {
  if constexpr (bytes == 4) {
    *reinterpret_cast<std::uint32_t*>(to) = word;
  } else if constexpr (bytes == 2) {
    *reinterpret_cast<std::uint16_t*>(to) = static_cast<std::uint16_t>(word);
  } else {
    store_some_bytes<bytes>(to, word, bytes);
  }
}

}  // namespace rotorquant::device
