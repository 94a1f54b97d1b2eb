#pragma once
// The encode kernel of tensor_codec.cuh.
#include "rotorquant/device/hopper/byte_rows.cuh"
#include "rotorquant/device/hopper/tensor_blocks.cuh"
#include "rotorquant/device/hopper/tensor_codec.cuh"
#include "rotorquant/device/nibbles.cuh"
#include "rotorquant/device/refusals.cuh"
#include "rotorquant/device/row_fragments.cuh"

namespace rotorquant::device {

// A warp's 16 rows on their way, and the thread's part of them as the product's left operand.
template <typename Shape, typename T, bool whole>
struct TensorRows {
  using Tile = RowTile<rows_a_warp, Shape::dim / 8>;
  using Operand = RowOperand<Shape::steps>;

  // Before the first fetch: padding stays zero.
  static __device__ __forceinline__ void clear(std::uint8_t* shared, int lane) {
    if constexpr (!whole) {
      for (int i = 16 * lane; i < Tile::bytes; i += 16 * warp_size)
        *reinterpret_cast<uint4*>(shared + i) = make_uint4(0, 0, 0, 0);
      __syncwarp();
    }
  }
  // One group of background copies: `count` rows of row_chunks chunks.
  static __device__ __forceinline__ void fetch(std::uint8_t* shared, const uint4* rows, int row_chunks,
                                               int count, int lane) {
    if constexpr (whole) {
      Tile::fetch(shared, reinterpret_cast<const std::uint8_t*>(rows), count);
    } else {
      for (int row = lane / 8; row < count; row += 4) {
        for (int chunk = lane % 8; chunk < row_chunks; chunk += 8)
          copy_async_16(shared + row * Tile::pitch + 16 * chunk, rows + row * row_chunks + chunk);
      }
      commit_copies();
    }
  }

  // Norms of both rows, the same in all four lanes, in float32.
  static __device__ __forceinline__ void find_norms(const Operand& operand, float (&norm)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sums[2][2] = {};
#pragma unroll
      for (int s = 0; s < Shape::steps; ++s) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float2 two = unpack_two<T>(operand[s][2 * h + r]);
          sums[h][0] = fmaf(two.x, two.x, sums[h][0]);
          sums[h][1] = fmaf(two.y, two.y, sums[h][1]);
        }
      }
      norm[r] = square_root(sum_of_quad((sums[0][0] + sums[0][1]) + (sums[1][0] + sums[1][1])));
    }
  }
  // A bound on their relative error: each sum has dim / 16 rounded additions, four more join them, and the
  // root halves what they add up to and adds its own.
  static constexpr float norm_uncertainty = (Shape::dim / 16 + 4) * 0x1p-25F + 0x1p-23F;

  // The same, exact where their 16-bit form would be in doubt. Lanes t = 0 and 1 of a row's four store them.
  static __device__ __forceinline__ void find_kept_norms(const Operand& operand, float (&norm)[2], int t) {
    find_norms(operand, norm);
    const bool doubt = t < 2 && in_doubt(t == 0 ? norm[0] : norm[1], norm_uncertainty);
    if (__any_sync(0xFFFFFFFFU, doubt)) find_exact_norms<T>(operand, norm);
  }

  // Rows as fp16 whose norms lie between 1/2 and 256, where e4m3 holds their coordinates: others, and all
  // bf16 ones, times a power of two that makes their norms, which are brought along, 64 to 128. Subnormal
  // norms cannot be stored and their codes do not matter.
  static __device__ __forceinline__ void make_half(Operand& operand, float (&norm)[2]) {
    constexpr bool always = std::is_same_v<T, __nv_bfloat16>;
    const auto lies_well = [](float own) { return !always && own >= 0.5F && own <= 256.0F; };
    if (!always && __all_sync(0xFFFFFFFFU, lies_well(norm[0]) && lies_well(norm[1]))) return;
    float power[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      constexpr std::uint32_t aim = 6;
      const std::uint32_t exponent = min(max(__float_as_uint(norm[r]) >> 23, 1U + aim), 253U);
      power[r] = lies_well(norm[r]) ? 1.0F : __uint_as_float((254U + aim - exponent) << 23);
      norm[r] *= power[r];
    }
    convert(operand, power);
  }

 private:
  static __device__ __forceinline__ void convert(Operand& operand, const float (&scale)[2]) {
#pragma unroll
    for (int s = 0; s < Shape::steps; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 two = unpack_two<T>(operand[s][i]);
        const __half2 half = __floats2half2_rn(two.x * scale[i % 2], two.y * scale[i % 2]);
        operand[s][i] = *reinterpret_cast<const std::uint32_t*>(&half);
      }
    }
  }
};

// Stores the norms of a warp's rows, of which `first` is the first.
__device__ __forceinline__ void keep_norms(const float (&norm)[2], const TensorEncode& p, std::int64_t first,
                                           const TensorPlace& place) {
  const std::int64_t at = first + place.g + 8 * place.t;
  if (place.t >= 2 || at >= p.n) return;
  const float own = place.t == 0 ? norm[0] : norm[1];
  p.norms[at] = __float2half_rn(own);
  check_norm(p.refusals, NormType::fp16, own, at);
}

// The thread's i-th coordinate of row g + 8 r, times -1.
template <typename Shape>
__device__ __forceinline__ float sum_of(const float (&sums)[Shape::columns / 2], int r, int i) {
  return sums[i / 2 * 4 + 2 * r + i % 2];
}

// What quantization wants to know of a row with this norm.
template <int curve_bits>
__device__ __forceinline__ float quantizer_scale(const MagnitudeCurve& curve, float norm) {
  if constexpr (curve_bits > 0) return IndexPlanes<curve_bits>::measure(curve, norm, tensor_scale);
  return norm > 0.0F ? __fdividef(-SearchTable::scale / tensor_scale, norm) : 0.0F;
}

// Planes of the thread's coordinates of both rows; bit i: the i-th coordinate. 2 or 3 bits, see IndexPlanes.
template <typename Shape, int bits>
__device__ __forceinline__ void quantize_rows(const float (&sums)[Shape::columns / 2],
                                              const float (&measure)[2], const MagnitudeCurve& curve,
                                              std::uint32_t (&planes)[2][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    IndexPlanes<bits> pushed;
#pragma unroll
    for (int i = 0; i < Shape::lane_coordinates; ++i) {
      pushed.push(curve, measure[r], i % 2, sum_of<Shape>(sums, r, i));
    }
    std::uint32_t finished[bits];
    pushed.finish(Shape::lane_coordinates, finished);
#pragma unroll
    for (int j = 0; j < 4; ++j) planes[r][j] = j < bits ? finished[j] : 0U;
  }
}

// The same for any codebook: values are sums * scale.
template <typename Shape>
__device__ __forceinline__ void search_rows(const float (&sums)[Shape::columns / 2], const float (&scale)[2],
                                            const std::uint32_t* table, std::uint32_t (&planes)[2][4]) {
  // 4 bins s, which is below 4 bins, as an integer in the low bits.
  constexpr float four_bins = 4.0F * SearchTable::bins, middle = 0x1p23F + four_bins / 2;
#pragma unroll
  for (int i = 0; i < 8; ++i) planes[i / 4][i % 4] = 0;
  const float wide[2] = {scale[0] * four_bins, scale[1] * four_bins};
#pragma unroll
  for (int c = Shape::lane_coordinates - 1; c >= 0; --c) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = sum_of<Shape>(sums, r, c);
      const std::uint32_t offset = __float_as_uint(fmaf(sum, wide[r], middle)) & (4 * SearchTable::bins - 4);
      const std::uint32_t entry =
          *reinterpret_cast<const std::uint32_t*>(reinterpret_cast<const char*>(table) + offset);
      const std::uint32_t place = __float_as_uint(fmaf(sum, scale[r], 1.5F));
      planes[r][c % 4] = __funnelshift_l(entry + place, planes[r][c % 4], 4);
    }
  }
  exchange_nibbles(planes[0]);
  exchange_nibbles(planes[1]);
}

// Where codes of a warp's rows are gathered, and how they go to memory.
template <typename Shape, bool whole>
struct CodeTile {
  int bits, dim;
  int part;              // of the pieces that this block makes
  std::uint8_t* shared;  // [16, bits, kept_bytes]

  __device__ __forceinline__ int plane_bytes() const { return dim_of<Shape, whole>(dim) / 8; }
  // Of a plane that this block makes, and where they begin.
  __device__ __forceinline__ int first_byte() const { return part * (Shape::part_columns / 8); }
  __device__ __forceinline__ int kept_bytes() const {
    return whole ? Shape::part_columns / 8 : min(Shape::part_columns / 8, plane_bytes() - first_byte());
  }

  // The thread's bytes of a piece of the block's.
  __device__ __forceinline__ void put(int row, int piece, int t, const std::uint32_t (&planes)[4]) const {
    const int kept = kept_bytes();
    const int first = piece * (Shape::columns / 8) + (t * Shape::lane_coordinates + 4) / 8;
    std::uint8_t* const to = shared + row * bits * kept + first;
#pragma unroll
    for (int j = 0; j < most_tensor_bits; ++j) {
      if (j >= bits) break;
      if constexpr (Shape::lane_coordinates % 8 != 0) {
        // Two and a half bytes: every second lane takes over the half byte of the lane after it.
        const std::uint32_t beside = __shfl_xor_sync(0xFFFFFFFFU, planes[j], 1);
        const bool even = t % 2 == 0;
        constexpr std::uint32_t own_bits = (1U << Shape::lane_coordinates) - 1U;
        const std::uint32_t word =
            even ? (planes[j] & own_bits) | beside << Shape::lane_coordinates : planes[j] >> 4;
        store_some_bytes<3>(to + j * kept, word, even ? 3 : 2);
      } else if constexpr (whole) {
        store_bytes<Shape::lane_bytes>(to + j * kept, planes[j]);
      } else {
        store_some_bytes<Shape::lane_bytes>(to + j * kept, planes[j], kept - first);
      }
    }
  }
  // Rows first .. first + 15, those below n.
  __device__ __forceinline__ void write(std::uint8_t* codes, std::int64_t first, std::int64_t n,
                                        int lane) const {
    const int count =
        static_cast<int>(min(static_cast<std::int64_t>(rows_a_warp), max(n - first, std::int64_t{0})));
    const int planes = count * bits, kept = kept_bytes(), stride = plane_bytes();
    std::uint8_t* const to = codes + first * bits * stride;
    if (kept == stride && planes * kept % 16 == 0) {
#pragma unroll
      for (int i = 0; i < rows_a_warp * most_tensor_bits * Shape::dim / 8 / 16; i += warp_size) {
        if (16 * (i + lane) >= planes * kept) break;
        reinterpret_cast<uint4*>(to)[i + lane] = reinterpret_cast<const uint4*>(shared)[i + lane];
      }
    } else if (kept == 16 && stride % 16 == 0) {
#pragma unroll 1
      for (int i = lane; i < planes; i += warp_size) {
        *reinterpret_cast<uint4*>(to + i * stride + first_byte()) = reinterpret_cast<const uint4*>(shared)[i];
      }
    } else {
#pragma unroll 1
      for (int i = lane; i < planes * kept; i += warp_size) {
        to[i / kept * stride + first_byte() + i % kept] = shared[i];
      }
    }
  }
};

// The encoder as a job of run_tiles. curve_bits: those that IndexPlanes is for, or 0 for the search table.
template <typename Shape, typename T, bool whole, int curve_bits>
struct EncodeJob {
  using Rows = TensorRows<Shape, T, whole>;

  const TensorEncode& p;
  TensorPlace place;
  std::int64_t stride;  // of tiles
  const std::uint32_t* table;
  CodeTile<Shape, whole> codes;
  std::uint8_t* rows;  // the warp's next ones
  ByteRows<Shape> operand_;
  float scale[2][2];  // what quantization wants to know of each parity's rows

  template <int>
  __device__ __forceinline__ auto& operand() {
    return operand_;
  }
  template <int>
  __device__ __forceinline__ void load(std::int64_t) {}

  __device__ __forceinline__ int row_chunks() const { return dim_of<Shape, whole>(p.dim) / 8; }
  // The warp's first row.
  __device__ __forceinline__ std::int64_t row_of(std::int64_t tile) const {
    return tile * wgmma_rows + place.warp % 4 * rows_a_warp;
  }
  // Rows past the end are what they were; nothing is written for them.
  __device__ __forceinline__ void fetch(std::int64_t tile) const {
    const std::int64_t first = row_of(tile);
    const std::int64_t count = min(std::int64_t{rows_a_warp}, p.n - first);
    Rows::fetch(rows, p.x + first * row_chunks(), row_chunks(), static_cast<int>(count), place.lane);
  }

  template <int parity>
  __device__ __forceinline__ void prepare(std::int64_t tile) {
    wait_for_copies<0>();
    __syncwarp();
    load_rows(operand_.half, rows, Rows::Tile::pitch);
    __syncwarp();
    fetch(tile + stride);
    float norm[2];
    Rows::find_kept_norms(operand_.half, norm, place.t);
    if (codes.part == 0) keep_norms(norm, p, row_of(tile), place);
    Rows::make_half(operand_.half, norm);
    operand_.make_bytes();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      scale[parity][r] = quantizer_scale<curve_bits>(p.curve, norm[r]);
    }
  }

  template <int parity, int piece>
  __device__ __forceinline__ void take(std::int64_t tile, const float (&sums)[Shape::columns / 2]) {
    std::uint32_t planes[2][4];
    if constexpr (curve_bits > 0) {
      quantize_rows<Shape, curve_bits>(sums, scale[parity], p.curve, planes);
    } else {
      search_rows<Shape>(sums, scale[parity], table, planes);
    }
    codes.put(place.g, piece, place.t, planes[0]);
    codes.put(place.g + 8, piece, place.t, planes[1]);
    if constexpr (piece == Shape::part_pieces - 1) {
      __syncwarp();
      codes.write(p.codes, row_of(tile), p.n, place.lane);
      __syncwarp();
    }
  }
};

template <typename Shape, typename T, bool whole, int curve_bits>
__global__ void __launch_bounds__(Shape::threads, 1)
    tensor_encode_kernel(const __grid_constant__ TensorEncode p) {
  using Memory = TensorMemory<Shape>;
  extern __shared__ __align__(1024) uint4 shared[];
  auto* const bytes = reinterpret_cast<std::uint8_t*>(shared);
  auto* const table = reinterpret_cast<std::uint32_t*>(bytes + Memory::table_offset);
  const TensorPlace place;
  const TensorTiles<Shape> tiles(p.n);
  load_matrix<Shape>(shared, p.matrix, tiles.part);
  if (threadIdx.x < SearchTable::bins) table[threadIdx.x] = p.table.entry[threadIdx.x];
  static_assert(SearchTable::bins <= Shape::threads);
  __syncthreads();
  EncodeJob<Shape, T, whole, curve_bits> job{
      p,
      place,
      tiles.stride,
      table,
      {p.bits, p.dim, tiles.part, bytes + Memory::code_offset + place.warp * Memory::encode_warp_bytes},
      bytes + Memory::code_offset + place.warp * Memory::encode_warp_bytes + Memory::stage_bytes};
  EncodeJob<Shape, T, whole, curve_bits>::Rows::clear(job.rows, place.lane);
  job.fetch(tiles.first);
  run_tiles<Shape>(job, tiles,
                   operand_descriptor(static_cast<std::uint32_t>(__cvta_generic_to_shared(bytes))));
}

template <typename Shape, bool whole, int curve_bits>
void launch_tensor_encode(cudaStream_t stream, int processors, const TensorEncode& arguments,
                          ElementType type) {
  constexpr int bytes = TensorMemory<Shape>::encode_bytes;
  const auto kernel = type == ElementType::float16
                          ? tensor_encode_kernel<Shape, __half, whole, curve_bits>
                          : tensor_encode_kernel<Shape, __nv_bfloat16, whole, curve_bits>;
  allow_shared_memory("encode", kernel, bytes);
  kernel<<<tensor_grid<Shape>(processors, arguments.n), Shape::threads, bytes, stream>>>(arguments);
  check_launch("encode");
}

template <typename Shape>
void launch_tensor_encode(cudaStream_t stream, int processors, const TensorEncode& arguments,
                          ElementType type) {
  const auto launch = [&]<bool whole, int curve_bits>() {
    launch_tensor_encode<Shape, whole, curve_bits>(stream, processors, arguments, type);
  };
  if (arguments.dim != Shape::dim) {
    if constexpr (!Shape::exact) launch.template operator()<false, 0>();
  } else if (arguments.curve_bits == 3) {
    launch.template operator()<true, 3>();
  } else if (arguments.curve_bits == 2) {
    launch.template operator()<true, 2>();
  } else {
    launch.template operator()<true, 0>();
  }
}

}  // namespace rotorquant::device
