#pragma once
// The decode kernel of tensor_codec.cuh.
#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/hopper/tensor_blocks.cuh"
#include "rotorquant/device/hopper/tensor_codec.cuh"
#include "rotorquant/device/nibbles.cuh"

namespace rotorquant::device {

// Centroids of the thread's part of rows g and g + 8 of its warp, as the product's left operand.
template <typename Shape, bool whole>
struct TensorCentroids {
  using Operand = std::uint32_t[Shape::steps][4];

  // codes: the warp's 16 rows in shared memory.
  static __device__ __forceinline__ void look_up(Operand& operand, const std::uint8_t* codes,
                                                 const TensorDecode& p, const TensorPlace& place) {
    const int plane_bytes = dim_of<Shape, whole>(p.dim) / 8;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const std::uint8_t* const row =
          codes + (place.g + 8 * r) * p.bits * plane_bytes + place.t * Shape::lane_bytes;
#pragma unroll
      for (int piece = 0; piece < Shape::pieces; ++piece) {
        std::uint32_t planes[4];
#pragma unroll
        for (int j = 0; j < most_tensor_bits; ++j) {
          planes[j] =
              j < p.bits ? load_plane(row + j * plane_bytes + piece * (Shape::columns / 8), plane_bytes) : 0U;
        }
        if (p.bits == 4) {
          look_up_words<4>(operand, planes, p.centroids, piece, r);
        } else {
          look_up_words<3>(operand, planes, p.centroids, piece, r);
        }
      }
    }
  }

 private:
  static __device__ __forceinline__ std::uint32_t load_plane(const std::uint8_t* from, int plane_bytes) {
    if (whole || plane_bytes % Shape::lane_bytes == 0) return load_bytes<Shape::lane_bytes>(from);
    std::uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < Shape::lane_bytes; ++i) word |= static_cast<std::uint32_t>(from[i]) << (8 * i);
    return word;
  }

  // bits: 4, or 3 for as many and fewer.
  template <int bits>
  static __device__ __forceinline__ void look_up_words(Operand& operand, std::uint32_t (&word)[4],
                                                       const HalfCentroids& table, int piece, int r) {
    if constexpr (bits == 4) fold_signs<4>(word);
    exchange_nibbles(word);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const std::uint32_t nibbles = bits == 4 ? word[k] & 0x77777777U : word[k];
      const std::uint32_t negative = bits == 4 ? word[k] >> 3 & 0x11111111U : 0U;
#pragma unroll
      for (int half = 0; 16 * half < Shape::lane_coordinates; ++half) {
        std::uint32_t low, high;
        look_up_four<bits>(table, nibbles >> (16 * half), negative >> (16 * half), low, high);
        const int step = piece * Shape::own_steps + 4 * half;
        if (16 * half + 16 <= Shape::lane_coordinates) {
          operand[step + k][r] = permute_bytes(low, high, 0x5140);
          operand[step + k][2 + r] = permute_bytes(low, high, 0x7362);
        } else {
          operand[step + k / 2][2 * (k % 2) + r] = permute_bytes(low, high, 0x5140);
        }
      }
    }
  }
};

// Eight numbers as 16 bytes.
__device__ __forceinline__ uint4 pack_chunk(ElementType type, const float (&value)[8]) {
  std::uint32_t word[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (type == ElementType::float16) {
      const __half2 pair = __floats2half2_rn(value[2 * i], value[2 * i + 1]);
      word[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
    } else {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(value[2 * i], value[2 * i + 1]);
      word[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
    }
  }
  return make_uint4(word[0], word[1], word[2], word[3]);
}

// Brings a warp's 16 rows from `first` on and their norms to shared memory: in the background, but for what
// the end of all rows cuts off.
template <typename Shape, bool whole>
__device__ __forceinline__ void fetch_codes(const TensorDecode& p, std::int64_t first, std::uint8_t* rows,
                                            std::uint8_t* norms, int lane) {
  const int row_bytes = p.bits * (dim_of<Shape, whole>(p.dim) / 8);
  const std::uint8_t* const from = p.codes + first * row_bytes;
  if (first + rows_a_warp <= p.n) {
#pragma unroll
    for (int i = 0; i < most_tensor_bits * Shape::dim / 8; i += warp_size) {
      const int chunk = i + lane;
      if (chunk < row_bytes) copy_async_16(rows + 16 * chunk, from + 16 * chunk);
    }
    if (lane < 2) copy_async_16(norms + 16 * lane, p.norms + first + 8 * lane);
  } else {
    const int count = static_cast<int>(max(p.n - first, std::int64_t{0}));
    for (int i = lane; i < count * row_bytes; i += warp_size) rows[i] = from[i];
    if (lane < count) reinterpret_cast<__half*>(norms)[lane] = p.norms[first + lane];
  }
}

// The decoder as a job of run_tiles.
template <typename Shape, bool whole>
struct DecodeJob {
  using Memory = TensorMemory<Shape>;
  static constexpr int stages = Memory::decode_stages;

  const TensorDecode& p;
  TensorPlace place;
  int part;
  std::int64_t stride;  // of tiles
  std::uint8_t* codes;  // [stages, stage_bytes], the warp's; result_bytes follow
  int stage = 0;        // that comes next
  std::uint32_t operand_[Shape::steps][4];
  float scale[2][2];  // of the sums, for each parity and row

  __device__ __forceinline__ int row_chunks() const { return dim_of<Shape, whole>(p.dim) / 8; }
  __device__ __forceinline__ std::int64_t row_of(std::int64_t tile) const {
    return tile * wgmma_rows + place.warp % 4 * rows_a_warp;
  }

  // One group of background copies.
  __device__ __forceinline__ void fetch(std::int64_t tile, int into) const {
    std::uint8_t* const to = codes + into * Memory::stage_bytes;
    fetch_codes<Shape, whole>(p, row_of(tile), to, to + Memory::norm_offset, place.lane);
    commit_copies();
  }
  __device__ __forceinline__ void begin(std::int64_t tile) const {
#pragma unroll
    for (int i = 0; i < stages - 1; ++i) fetch(tile + i * stride, i);
  }

  template <int>
  __device__ __forceinline__ auto& operand() {
    return operand_;
  }
  template <int>
  __device__ __forceinline__ void load(std::int64_t) {}

  template <int parity>
  __device__ __forceinline__ void prepare(std::int64_t tile) {
    fetch(tile + (stages - 1) * stride, stage == 0 ? stages - 1 : stage - 1);
    wait_for_copies<stages - 1>();
    __syncwarp();
    const std::uint8_t* const own = codes + stage * Memory::stage_bytes;
    const auto* const norms = reinterpret_cast<const __half*>(own + Memory::norm_offset);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      scale[parity][r] = __half2float(norms[place.g + 8 * r]) * (p.centroids.unit * (1.0F / tensor_scale));
    }
    TensorCentroids<Shape, whole>::look_up(operand_, own, p, place);
    __syncwarp();
    stage = stage + 1 == stages ? 0 : stage + 1;
  }

  template <int parity, int piece>
  __device__ __forceinline__ void take(std::int64_t tile, const float (&sums)[Shape::columns / 2]) {
    const std::int64_t first_row = row_of(tile), rows = p.n - first_row;
    const int first = (part * Shape::part_columns + piece * Shape::columns) / 8;
    uint4* const to = static_cast<uint4*>(p.x) + first_row * row_chunks() + first;
    const auto write = [&](int row, int chunk, const uint4& eight) {
      if (row < rows && (whole || first + chunk < row_chunks()))
        __stcs(to + row * row_chunks() + chunk, eight);
    };
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int q = 0; q < Shape::columns / 32; ++q) {
        float value[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          value[i] = sums[16 * q + 4 * (i / 2) + 2 * r + i % 2] * scale[parity][r];
        }
        const int row = place.g + 8 * r, chunk = 4 * q + place.t;
        if constexpr (Memory::result_bytes > 0) {
          result(row, chunk) = pack_chunk(p.type, value);
        } else {
          write(row, chunk, pack_chunk(p.type, value));
        }
      }
    }
    if constexpr (Memory::result_bytes > 0) {
      // Lanes hold 64 bytes of eight rows each; two rows at a time are written whole.
      __syncwarp();
      constexpr int chunks = Shape::columns / 8;
#pragma unroll
      for (int i = 0; i < rows_a_warp * chunks; i += warp_size) {
        const int row = (i + place.lane) / chunks, chunk = (i + place.lane) % chunks;
        write(row, chunk, result(row, chunk));
      }
      __syncwarp();
    }
  }

  // A chunk of the warp's 16 rows in shared memory; neighbouring rows begin in different halves of the banks.
  __device__ __forceinline__ uint4& result(int row, int chunk) const {
    auto* const results = reinterpret_cast<uint4*>(codes + stages * Memory::stage_bytes);
    return results[row * (Shape::columns / 8) + (chunk ^ row % 2 * 4)];
  }
};

template <typename Shape, bool whole>
__global__ void __launch_bounds__(Shape::threads, 1)
    tensor_decode_kernel(const __grid_constant__ TensorDecode p) {
  using Memory = TensorMemory<Shape>;
  extern __shared__ __align__(1024) uint4 shared[];
  auto* const bytes = reinterpret_cast<std::uint8_t*>(shared);
  const TensorPlace place;
  const TensorTiles<Shape> tiles(p.n);
  load_matrix<Shape>(shared, p.matrix, tiles.part);
  DecodeJob<Shape, whole> job{p, place, tiles.part, tiles.stride,
                              bytes + Memory::code_offset + place.warp * Memory::decode_warp_bytes};
  job.begin(tiles.first);
  __syncthreads();
  run_tiles<Shape>(job, tiles,
                   operand_descriptor(static_cast<std::uint32_t>(__cvta_generic_to_shared(bytes))));
}

template <typename Shape>
void launch_tensor_decode(cudaStream_t stream, int processors, const TensorDecode& arguments) {
  constexpr int bytes = TensorMemory<Shape>::decode_bytes;
  const auto kernel =
      arguments.dim == Shape::dim ? tensor_decode_kernel<Shape, true> : tensor_decode_kernel<Shape, false>;
  allow_shared_memory("decode", kernel, bytes);
  kernel<<<tensor_grid<Shape>(processors, arguments.n), Shape::threads, bytes, stream>>>(arguments);
  check_launch("decode");
}

}  // namespace rotorquant::device
