#pragma once
// The encode kernel of sketch_codec.cuh. Warpgroups take tiles of 64 rows from the first product to the last
// bit; while one waits for the tensor cores, others use them.
#include "rotorquant/device/hopper/sketch_codec.cuh"
#include "rotorquant/device/hopper/tensor_encode.cuh"

namespace rotorquant::device {

// What a block has in shared memory, in this order: the matrices, the search table, centroids, and of each
// warp the codes and signs of its rows and the rows that come next.
template <typename Shape>
struct SketchEncodeMemory {
  using Bytes = typename Shape::WithBytes;
  static constexpr int projection_offset = Shape::pieces * Shape::piece_bytes;
  static constexpr int projection_bytes = Shape::pieces * Bytes::piece_bytes;
  // The projection's first term once more, in e4m3.
  static constexpr int byte_offset = projection_offset + projection_bytes;
  static constexpr int byte_bytes = Shape::pieces * Bytes::byte_term_bytes;
  static constexpr int table_offset = byte_offset + byte_bytes;
  static constexpr int level_offset = table_offset + 4 * SearchTable::bins;
  static constexpr int warp_offset = level_offset + 64;
  static constexpr int sign_offset = rows_a_warp * most_tensor_bits * Shape::dim / 8;
  static constexpr int row_offset = sign_offset + rows_a_warp * Shape::dim / 8;
  static constexpr int warp_bytes = row_offset + RowTile<rows_a_warp, Shape::dim / 8>::bytes;
  static constexpr int bytes = warp_offset + Shape::warps * warp_bytes;
  static_assert(Shape::parts == 1 && !Shape::local && bytes <= 227 << 10);
};

// Numbers as the sum of two terms, both as left operands: fp16 and, byte_rest_scale times as large as it is,
// e4m3; the first term in e4m3 too.
template <typename Shape>
struct SplitOperand {
  ByteRows<Shape> high;
  std::uint32_t low[Shape::byte_steps][4];

  // Words r and 2 + r of a step, of two numbers each.
  __device__ __forceinline__ void put(int step, int r, const float (&numbers)[4]) {
    std::uint32_t rest[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const __half2 rounded = __floats2half2_rn(numbers[2 * h], numbers[2 * h + 1]);
      const float2 kept = __half22float2(rounded);
      const __half2 left = __hmul2(__floats2half2_rn(numbers[2 * h] - kept.x, numbers[2 * h + 1] - kept.y),
                                   __float2half2_rn(byte_rest_scale));
      high.half[step][2 * h + r] = *reinterpret_cast<const std::uint32_t*>(&rounded);
      rest[h] = *reinterpret_cast<const std::uint32_t*>(&left);
    }
    const int word = ByteRows<Shape>::byte_word(step, r);
    high.byte[step / 2][word] = four_bytes(high.half[step][r], high.half[step][2 + r]);
    low[step / 2][word] = four_bytes(rest[0], rest[1]);
  }
};

// sums = 64 rows x a piece's matrix, both in two terms; the product of the low ones, 2^-22 of the whole, is
// left out. byte_matrix: the first piece's first term in e4m3.
template <typename Shape, int piece>
__device__ __forceinline__ void multiply_split(float (&sums)[Shape::columns / 2], std::uint32_t matrix,
                                               std::uint32_t byte_matrix,
                                               const SplitOperand<Shape>& operand) {
  wgmma_begin();
  queue_bytes<Shape, piece>(sums, byte_matrix + piece * Shape::byte_term_bytes / descriptor_unit, operand.low,
                            false);
  queue_product<Shape, piece>(sums, matrix, operand.high, true);
  wgmma_commit();
  wgmma_wait(sums);
}

// curve_bits: as in EncodeJob.
template <typename Shape, typename T, bool whole, int curve_bits>
struct SketchEncodeJob {
  using Rows = TensorRows<Shape, T, whole>;
  using Bytes = typename Shape::WithBytes;
  // Residuals are this times as large as those of unit vectors, where e4m3 holds them.
  static constexpr float residual_scale = 0x1p7F;

  const SketchEncode& p;
  TensorPlace place;
  const std::uint32_t* table;
  const float* levels;
  CodeTile<Shape, whole> codes, signs;
  std::uint8_t* rows;  // the warp's next ones

  __device__ __forceinline__ int dim() const { return dim_of<Shape, whole>(p.stage1.dim); }
  __device__ __forceinline__ std::int64_t row_of(std::int64_t tile) const {
    return tile * wgmma_rows + place.warp % 4 * rows_a_warp;
  }
  // Rows past the end are what they were; nothing is written for them.
  __device__ __forceinline__ void fetch(std::int64_t tile) const {
    const std::int64_t first = row_of(tile);
    const std::int64_t count = min(std::int64_t{rows_a_warp}, p.stage1.n - first);
    Rows::fetch(rows, p.stage1.x + first * (dim() / 8), dim() / 8, static_cast<int>(count), place.lane);
  }

  // Quantizes a piece of the rotated rows; what is left of them goes to `residual`, its squares to `energy`.
  template <int piece>
  __device__ __forceinline__ void take(const float (&sums)[Shape::columns / 2], const float (&measure)[2],
                                       const float (&unit)[2], const float (&ratio)[2],
                                       SplitOperand<Bytes>& residual, float (&energy)[2]) const {
    std::uint32_t planes[2][4];
    if constexpr (curve_bits > 0) {
      quantize_rows<Shape, curve_bits>(sums, measure, p.stage1.curve, planes);
    } else {
      search_rows<Shape>(sums, measure, table, planes);
    }
    codes.put(place.g, piece, place.t, planes[0]);
    codes.put(place.g + 8, piece, place.t, planes[1]);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      exchange_nibbles(planes[r]);
      const auto rest = [&](int i) {
        const unsigned index = planes[r][i % 4] >> (4 * (i / 4)) & 0xFU;
        const float y = sum_of<Shape>(sums, r, i) * unit[r];
        const int coordinate = Shape::columns * piece + Shape::lane_coordinates * place.t + i;
        return whole || coordinate < dim() ? fmaf(-ratio[r], levels[index], y) : 0.0F;
      };
#pragma unroll
      for (int i = 0; i < Shape::lane_coordinates; i += 4) {
        const float numbers[4] = {rest(i), rest(i + 1), rest(i + 2), rest(i + 3)};
#pragma unroll
        for (int h = 0; h < 4; h += 2)
          energy[r] = fmaf(numbers[h], numbers[h], fmaf(numbers[h + 1], numbers[h + 1], energy[r]));
        residual.put(piece * Shape::own_steps + i / 4, r, numbers);
      }
    }
  }

  template <int piece>
  __device__ __forceinline__ void take_signs(const float (&sums)[Shape::columns / 2]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      std::uint32_t planes[4] = {};
#pragma unroll
      for (int i = Shape::lane_coordinates - 1; i >= 0; --i) {
        // A negative zero becomes a positive one.
        planes[0] = __funnelshift_l(__float_as_uint(sum_of<Shape>(sums, r, i) + 0.0F), planes[0], 1);
      }
      signs.put(place.g + 8 * r, piece, place.t, planes);
    }
  }

  __device__ __forceinline__ void run(std::int64_t tile, std::int64_t next, std::uint32_t rotation,
                                      std::uint32_t projection, std::uint32_t byte_projection) const {
    const std::int64_t first = row_of(tile);
    SplitOperand<Bytes> residual;
    float energy[2] = {}, length[2];
    {
      std::uint32_t operand[Shape::steps][4];
      wait_for_copies<0>();
      __syncwarp();
      load_rows(operand, rows, Rows::Tile::pitch);
      __syncwarp();
      fetch(next);
      float norm[2], measure[2], unit[2], ratio[2];
      Rows::find_kept_norms(operand, norm, place.t);
      keep_norms(norm, p.stage1, first, place);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        length[r] = norm[r];
        const float kept = __half2float(__float2half_rn(norm[r]));
        ratio[r] = norm[r] > 0.0F ? __fdividef(residual_scale * kept, norm[r]) : 0.0F;
      }
      Rows::make_half(operand, norm);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        measure[r] = quantizer_scale<curve_bits>(p.stage1.curve, norm[r]);
        unit[r] = norm[r] > 0.0F ? __fdividef(-residual_scale / tensor_scale, norm[r]) : 0.0F;
      }
      const auto run_piece = [&]<int piece>() {
        float sums[Shape::columns / 2];
        start_product<Shape, piece>(sums, rotation, operand);
        wgmma_wait(sums);
        take<piece>(sums, measure, unit, ratio, residual, energy);
      };
      run_piece.template operator()<0>();
      if constexpr (Shape::pieces == 2) run_piece.template operator()<1>();
      static_assert(Shape::pieces <= 2);
    }
    keep_residual_norms(first, energy, length);
    const auto run_piece = [&]<int piece>() {
      float sums[Shape::columns / 2];
      multiply_split<Bytes, piece>(sums, projection, byte_projection, residual);
      take_signs<piece>(sums);
    };
    run_piece.template operator()<0>();
    if constexpr (Shape::pieces == 2) run_piece.template operator()<1>();
    __syncwarp();
    codes.write(p.stage1.codes, first, p.stage1.n, place.lane);
    signs.write(p.signs, first, p.stage1.n, place.lane);
    __syncwarp();
  }

 private:
  __device__ __forceinline__ void keep_residual_norms(std::int64_t first, const float (&energy)[2],
                                                      const float (&length)[2]) const {
    const std::int64_t at = first + place.g + 8 * place.t;
    const float sums[2] = {sum_of_quad(energy[0]), sum_of_quad(energy[1])};
    if (place.t >= 2 || at >= p.stage1.n) return;
    const int r = place.t;
    const float norm =
        square_root(r == 0 ? sums[0] : sums[1]) * (1.0F / residual_scale) * (r == 0 ? length[0] : length[1]);
    if (norm >= half_overflow) refuse(p.stage1.refusals, at, Refusal::residual);
    p.residual_norms[at] = __float2half_rn(norm);
  }
};

template <typename Shape, typename T, bool whole, int curve_bits>
__global__ void __launch_bounds__(Shape::threads, 1)
    sketch_encode_kernel(const __grid_constant__ SketchEncode p) {
  using Memory = SketchEncodeMemory<Shape>;
  using Job = SketchEncodeJob<Shape, T, whole, curve_bits>;
  extern __shared__ __align__(1024) uint4 shared[];
  auto* const bytes = reinterpret_cast<std::uint8_t*>(shared);
  auto* const table = reinterpret_cast<std::uint32_t*>(bytes + Memory::table_offset);
  auto* const levels = reinterpret_cast<float*>(bytes + Memory::level_offset);
  const TensorPlace place;
  const TensorTiles<Shape> tiles(p.stage1.n);
  load_matrix<Shape>(shared, p.stage1.matrix, 0);
  load_operand<Shape, Memory::projection_bytes>(shared + Memory::projection_offset / 16, p.projection);
  load_operand<Shape, Memory::byte_bytes>(shared + Memory::byte_offset / 16, p.byte_projection);
  if (threadIdx.x < SearchTable::bins) table[threadIdx.x] = p.stage1.table.entry[threadIdx.x];
  if (threadIdx.x < 16) levels[threadIdx.x] = p.levels[threadIdx.x];
  std::uint8_t* const own = bytes + Memory::warp_offset + place.warp * Memory::warp_bytes;
  const Job job{p,
                place,
                table,
                levels,
                {p.stage1.bits, p.stage1.dim, 0, own},
                {1, p.stage1.dim, 0, own + Memory::sign_offset},
                own + Memory::row_offset};
  Job::Rows::clear(job.rows, place.lane);
  __syncthreads();
  const std::uint32_t rotation =
      operand_descriptor(static_cast<std::uint32_t>(__cvta_generic_to_shared(bytes)));
  const std::uint32_t projection = rotation + Memory::projection_offset / descriptor_unit;
  const std::uint32_t byte_projection = rotation + Memory::byte_offset / descriptor_unit;
  if (tiles.first < tiles.end) job.fetch(tiles.first);
  for (std::int64_t tile = tiles.first; tile < tiles.end; tile += tiles.stride)
    job.run(tile, tile + tiles.stride, rotation, projection, byte_projection);
  wait_for_copies<0>();
}

template <typename Shape>
void launch_sketch_encode(cudaStream_t stream, int processors, const SketchEncode& arguments,
                          ElementType type) {
  constexpr int bytes = SketchEncodeMemory<Shape>::bytes;
  const auto launch = [&](auto kernel) {
    allow_shared_memory("encode", kernel, bytes);
    kernel<<<tensor_grid<Shape>(processors, arguments.stage1.n), Shape::threads, bytes, stream>>>(arguments);
    check_launch("encode");
  };
  const auto launch_type = [&]<typename T>() {
    if (arguments.stage1.dim != Shape::dim) {
      launch(sketch_encode_kernel<Shape, T, false, 0>);
    } else if (arguments.stage1.curve_bits == 3) {
      launch(sketch_encode_kernel<Shape, T, true, 3>);
    } else if (arguments.stage1.curve_bits == 2) {
      launch(sketch_encode_kernel<Shape, T, true, 2>);
    } else {
      launch(sketch_encode_kernel<Shape, T, true, 0>);
    }
  };
  if (type == ElementType::float16) {
    launch_type.template operator()<__half>();
  } else {
    launch_type.template operator()<__nv_bfloat16>();
  }
}

}  // namespace rotorquant::device
