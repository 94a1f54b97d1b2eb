#pragma once
// The encode kernel of tensor_codec.cuh.
#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/hopper/tensor_blocks.cuh"
#include "rotorquant/device/hopper/tensor_codec.cuh"
#include "rotorquant/device/nibbles.cuh"
#include "rotorquant/device/refusals.cuh"

namespace rotorquant::device {

template <typename T>
__device__ __forceinline__ float2 unpack_two(std::uint32_t word) {
  if constexpr (std::is_same_v<T, __half>) {
    return __half22float2(*reinterpret_cast<const __half2*>(&word));
  } else {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xFFFF0000U));
  }
}

// Faster than the exact one, and as near as the bounds below need: 2^-23 of the root.
__device__ __forceinline__ float square_root(float x) {
  float root;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}

// The thread's part of rows g and g + 8 of its warp, chunks t, t + 4, ... of 8 numbers, as the product's left operand.
template <typename Shape, typename T, bool whole>
struct TensorRows {
  static constexpr int chunks = Shape::dim / 32;
  using Operand = std::uint32_t[Shape::steps][4];

  // row: chunk t of each.
  static __device__ __forceinline__ void load(Operand& operand, const uint4* const (&row)[2], int row_chunks,
                                              int t) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int p = 0; p < chunks; ++p) {
        uint4 four = make_uint4(0, 0, 0, 0);
        if (whole || 4 * p + t < row_chunks) {
          asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                       : "=r"(four.x), "=r"(four.y), "=r"(four.z), "=r"(four.w)
                       : "l"(row[r] + 4 * p));
        }
        put(operand, p, r, four);
      }
    }
  }

  // Norms of both rows, the same in all four lanes, in float32. Returns whether that leaves their 16-bit form in doubt.
  static __device__ __forceinline__ bool find_norms(const Operand& operand, float (&norm)[2]) {
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
    return in_doubt(norm[0]) || in_doubt(norm[1]);
  }

  // As the CPU has them, in float64.
  static __device__ __forceinline__ void find_exact_norms(const Operand& operand, float (&norm)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!__any_sync(0xFFFFFFFFU, in_doubt(norm[r]))) continue;
      double sums[2] = {};
#pragma unroll
      for (int s = 0; s < Shape::steps; ++s) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float2 two = unpack_two<T>(operand[s][2 * h + r]);
          const double first = two.x, second = two.y;
          sums[0] = fma(first, first, sums[0]);
          sums[1] = fma(second, second, sums[1]);
        }
      }
      norm[r] = static_cast<float>(sqrt(sum_of_quad(sums[0] + sums[1])));
    }
  }

  // bf16 as fp16, times a power of two of each row.
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

 private:
  // A bound on the relative error of the float32 norm: each sum has dim / 16 rounded additions, four more join them, and the
  // root halves what they add up to and adds its own.
  static constexpr float uncertainty = (Shape::dim / 16 + 4) * 0x1p-25F + 0x1p-23F;

  static __device__ __forceinline__ bool in_doubt(float norm) {
    return __hne(__float2half_rn(norm * (1.0F - uncertainty)), __float2half_rn(norm * (1.0F + uncertainty)));
  }
  static __device__ __forceinline__ void put(Operand& operand, int p, int r, const uint4& four) {
    operand[2 * p][r] = four.x, operand[2 * p][2 + r] = four.y;
    operand[2 * p + 1][r] = four.z, operand[2 * p + 1][2 + r] = four.w;
  }
  template <typename Number>
  static __device__ __forceinline__ Number sum_of_quad(Number sum) {
    sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
    return sum + __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
  }
};

// Planes of the thread's coordinates of both rows, whose values are sums * scale; bit i: the i-th coordinate.
template <typename Shape>
__device__ __forceinline__ void quantize_rows(const float (&sums)[Shape::columns / 2],
                                              const float (&scale)[2], const std::uint32_t* table,
                                              std::uint32_t (&planes)[2][4]) {
  // 4 bins s, which is below 4 bins, as an integer in the low bits.
  constexpr float four_bins = 4.0F * SearchTable::bins, middle = 0x1p23F + four_bins / 2;
#pragma unroll
  for (int i = 0; i < 8; ++i) planes[i / 4][i % 4] = 0;
  const float wide[2] = {scale[0] * four_bins, scale[1] * four_bins};
#pragma unroll
  for (int c = Shape::lane_coordinates - 1; c >= 0; --c) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = sums[c / 2 * 4 + 2 * r + c % 2];
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
    const int kept = kept_bytes(), first = piece * (Shape::columns / 8) + t * Shape::lane_bytes;
    std::uint8_t* const to = shared + row * bits * kept + first;
#pragma unroll
    for (int j = 0; j < most_tensor_bits; ++j) {
      if (j >= bits) break;
      if constexpr (whole) {
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

// The encoder as a job of run_tiles.
template <typename Shape, typename T, bool whole>
struct EncodeJob {
  using Rows = TensorRows<Shape, T, whole>;

  const TensorEncode& p;
  TensorPlace place;
  std::int64_t stride;  // of tiles
  const std::uint32_t* table;
  CodeTile<Shape, whole> codes;
  std::uint32_t operands_[2][Shape::steps][4];
  float scale[2][2];  // of the sums, for each parity and row

  template <int parity>
  __device__ __forceinline__ auto& operand() {
    return operands_[parity];
  }

  __device__ __forceinline__ int row_chunks() const { return dim_of<Shape, whole>(p.dim) / 8; }
  // The warp's first row.
  __device__ __forceinline__ std::int64_t row_of(std::int64_t tile) const {
    return tile * wgmma_rows + place.warp % 4 * rows_a_warp;
  }
  __device__ __forceinline__ void find_rows(std::int64_t tile, const uint4* (&row)[2]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      // Rows past the end repeat the last one; nothing is written for them.
      row[r] = p.x + min(row_of(tile) + place.g + 8 * r, p.n - 1) * row_chunks() + place.t;
    }
  }

  __device__ __forceinline__ void begin(std::int64_t tile) {
    load<0>(tile);
    load<1>(tile + stride);
  }

  template <int parity>
  __device__ __forceinline__ void load(std::int64_t tile) {
    const uint4* row[2];
    find_rows(tile, row);
    Rows::load(operand<parity>(), row, row_chunks(), place.t);
    const std::int64_t later = row_of(tile + 2 * stride);
    if (place.lane == 0 && later + rows_a_warp <= p.n) {
      prefetch(p.x + later * row_chunks(), rows_a_warp * row_chunks());
    }
  }

  template <int parity>
  __device__ __forceinline__ void prepare(std::int64_t tile) {
    float norm[2];
    const bool doubt = Rows::find_norms(operand<parity>(), norm);
    if (__any_sync(0xFFFFFFFFU, doubt)) {
      Rows::find_exact_norms(operand<parity>(), norm);
    }
    const std::int64_t at = row_of(tile) + place.g + 8 * place.t;
    if (place.t < 2 && codes.part == 0 && at < p.n) {
      const float own = place.t == 0 ? norm[0] : norm[1];
      p.norms[at] = __float2half_rn(own);
      check_norm(p.refusals, NormType::fp16, own, at);
    }
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
      // 2^-exponent of the norm; subnormal norms cannot be stored and their codes do not matter.
      float power[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const std::uint32_t exponent = min(max(__float_as_uint(norm[r]) >> 23, 1U), 253U);
        power[r] = __uint_as_float((254U - exponent) << 23);
        norm[r] *= power[r];
      }
      Rows::convert(operand<parity>(), power);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      scale[parity][r] = norm[r] > 0.0F ? __fdividef(SearchTable::scale / tensor_scale, norm[r]) : 0.0F;
    }
  }

  template <int parity, int piece>
  __device__ __forceinline__ void take(std::int64_t tile, const float (&sums)[Shape::columns / 2]) {
    std::uint32_t planes[2][4];
    quantize_rows<Shape>(sums, scale[parity], table, planes);
    codes.put(place.g, piece, place.t, planes[0]);
    codes.put(place.g + 8, piece, place.t, planes[1]);
    if constexpr (piece == Shape::part_pieces - 1) {
      __syncwarp();
      codes.write(p.codes, row_of(tile), p.n, place.lane);
      __syncwarp();
    }
  }
};

template <typename Shape, typename T, bool whole>
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
  EncodeJob<Shape, T, whole> job{
      p,
      place,
      tiles.stride,
      table,
      {p.bits, p.dim, tiles.part, bytes + Memory::code_offset + place.warp * Memory::stage_bytes}};
  job.begin(tiles.first);
  run_tiles<Shape>(job, tiles,
                   operand_descriptor(static_cast<std::uint32_t>(__cvta_generic_to_shared(bytes))));
}

template <typename Shape, bool whole>
void launch_tensor_encode(cudaStream_t stream, int processors, const TensorEncode& arguments,
                          ElementType type) {
  constexpr int bytes = TensorMemory<Shape>::encode_bytes;
  const auto kernel = type == ElementType::float16 ? tensor_encode_kernel<Shape, __half, whole>
                                                   : tensor_encode_kernel<Shape, __nv_bfloat16, whole>;
  allow_shared_memory("encode", kernel, bytes);
  kernel<<<tensor_grid<Shape>(processors, arguments.n), Shape::threads, bytes, stream>>>(arguments);
  check_launch("encode");
}

template <typename Shape>
void launch_tensor_encode(cudaStream_t stream, int processors, const TensorEncode& arguments,
                          ElementType type) {
  if (arguments.dim == Shape::dim)
    return launch_tensor_encode<Shape, true>(stream, processors, arguments, type);
  launch_tensor_encode<Shape, false>(stream, processors, arguments, type);
}

}  // namespace rotorquant::device
