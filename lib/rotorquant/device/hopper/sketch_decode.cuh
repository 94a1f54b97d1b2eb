#pragma once
// The decode kernel of sketch_codec.cuh.
#include "rotorquant/device/hopper/sketch_codec.cuh"
#include "rotorquant/device/hopper/tensor_decode.cuh"

namespace rotorquant::device {

// What a block has in shared memory, in this order: both matrices, and of each warp the codes and norms of
// both parts in stages.
template <typename Shape>
struct SketchDecodeMemory {
  static constexpr int matrix_bytes = Shape::pieces * Shape::piece_bytes;
  static constexpr int stages = 3;
  static constexpr int norm_offset = rows_a_warp * most_tensor_bits * Shape::dim / 8;
  static constexpr int sign_offset = norm_offset + 2 * rows_a_warp;
  static constexpr int residual_offset = sign_offset + rows_a_warp * Shape::dim / 8;
  // Lanes may read a few bytes past the end of their rows.
  static constexpr int stage_bytes = residual_offset + 2 * rows_a_warp + 16;
  static constexpr int warp_bytes = stages * stage_bytes;
  static constexpr int bytes = 2 * matrix_bytes + Shape::warps * warp_bytes;
  static_assert(Shape::parts == 1 && !Shape::local && bytes <= 227 << 10);
};

template <typename Shape, bool whole>
struct SketchDecodeJob {
  using Memory = SketchDecodeMemory<Shape>;

  const SketchDecode& p;
  TensorPlace place;
  std::uint8_t* stages;  // the warp's

  __device__ __forceinline__ std::int64_t row_of(std::int64_t tile) const {
    return tile * wgmma_rows + place.warp % 4 * rows_a_warp;
  }
  __device__ __forceinline__ void fetch(std::int64_t tile, int into) const {
    std::uint8_t* const to = stages + into * Memory::stage_bytes;
    fetch_codes<Shape, whole>(p.stage1, row_of(tile), to, to + Memory::norm_offset, place.lane);
    fetch_codes<Shape, whole>(p.sketch, row_of(tile), to + Memory::sign_offset, to + Memory::residual_offset,
                              place.lane);
    commit_copies();
  }

  __device__ __forceinline__ void run(std::int64_t tile, int stage, std::uint32_t rotation,
                                      std::uint32_t projection) const {
    const std::uint8_t* const own = stages + stage * Memory::stage_bytes;
    std::uint32_t centroids[Shape::steps][4], signs[Shape::steps][4];
    float scale[2], magnitude[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const auto norm = [&](int offset) {
        return __half2float(reinterpret_cast<const __half*>(own + offset)[place.g + 8 * r]) *
               (1.0F / tensor_scale);
      };
      scale[r] = norm(Memory::norm_offset) * p.stage1.centroids.unit;
      magnitude[r] = norm(Memory::residual_offset) * p.sketch.centroids.unit;
    }
    TensorCentroids<Shape, whole>::look_up(centroids, own, p.stage1, place);
    TensorCentroids<Shape, whole>::look_up(signs, own + Memory::sign_offset, p.sketch, place);
    const auto run_piece = [&]<int piece>() {
      float sums[Shape::columns / 2], corrections[Shape::columns / 2];
      start_product<Shape, piece>(sums, rotation, centroids);
      // The second term, 2^-12 of the correction, is less than the rounding of the outputs.
      start_product<Shape, piece, 1>(corrections, projection, signs);
      wgmma_wait(sums);
      wgmma_wait(corrections);
      write<piece>(row_of(tile), sums, corrections, scale, magnitude);
    };
    run_piece.template operator()<0>();
    if constexpr (Shape::pieces == 2) run_piece.template operator()<1>();
    static_assert(Shape::pieces <= 2);
  }

 private:
  template <int piece>
  __device__ __forceinline__ void write(std::int64_t first, const float (&sums)[Shape::columns / 2],
                                        const float (&corrections)[Shape::columns / 2],
                                        const float (&scale)[2], const float (&magnitude)[2]) const {
    const int chunks = dim_of<Shape, whole>(p.stage1.dim) / 8;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const std::int64_t row = first + place.g + 8 * r;
      if (row >= p.stage1.n) continue;
      uint4* const to = static_cast<uint4*>(p.stage1.x) + row * chunks;
#pragma unroll
      for (int q = 0; q < Shape::columns / 32; ++q) {
        float value[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int at = 16 * q + 4 * (i / 2) + 2 * r + i % 2;
          value[i] = fmaf(corrections[at], magnitude[r], sums[at] * scale[r]);
        }
        const int chunk = piece * (Shape::columns / 8) + 4 * q + place.t;
        if (whole || chunk < chunks) __stcs(to + chunk, pack_chunk(p.stage1.type, value));
      }
    }
  }
};

template <typename Shape, bool whole>
__global__ void __launch_bounds__(Shape::threads, 1)
    sketch_decode_kernel(const __grid_constant__ SketchDecode p) {
  using Memory = SketchDecodeMemory<Shape>;
  extern __shared__ __align__(1024) uint4 shared[];
  auto* const bytes = reinterpret_cast<std::uint8_t*>(shared);
  const TensorPlace place;
  const TensorTiles<Shape> tiles(p.stage1.n);
  load_matrix<Shape>(shared, p.stage1.matrix, 0);
  load_matrix<Shape>(shared + Memory::matrix_bytes / 16, p.sketch.matrix, 0);
  const SketchDecodeJob<Shape, whole> job{p, place,
                                          bytes + 2 * Memory::matrix_bytes + place.warp * Memory::warp_bytes};
#pragma unroll
  for (int i = 0; i < Memory::stages - 1; ++i) job.fetch(tiles.first + i * tiles.stride, i);
  __syncthreads();
  const std::uint32_t rotation =
      operand_descriptor(static_cast<std::uint32_t>(__cvta_generic_to_shared(bytes)));
  const std::uint32_t projection = rotation + Memory::matrix_bytes / 16;
  int stage = 0;
  for (std::int64_t tile = tiles.first; tile < tiles.end; tile += tiles.stride) {
    job.fetch(tile + (Memory::stages - 1) * tiles.stride, stage == 0 ? Memory::stages - 1 : stage - 1);
    wait_for_copies<Memory::stages - 1>();
    __syncwarp();
    job.run(tile, stage, rotation, projection);
    __syncwarp();
    stage = stage + 1 == Memory::stages ? 0 : stage + 1;
  }
  wait_for_copies<0>();
}

template <typename Shape>
void launch_sketch_decode(cudaStream_t stream, int processors, const SketchDecode& arguments) {
  constexpr int bytes = SketchDecodeMemory<Shape>::bytes;
  const auto kernel = arguments.stage1.dim == Shape::dim ? sketch_decode_kernel<Shape, true>
                                                         : sketch_decode_kernel<Shape, false>;
  allow_shared_memory("decode", kernel, bytes);
  kernel<<<tensor_grid<Shape>(processors, arguments.stage1.n), Shape::threads, bytes, stream>>>(arguments);
  check_launch("decode");
}

}  // namespace rotorquant::device
