#pragma once
// Scalar codecs of any rotation, dim, width, norm type and scale rule: one thread a vector, one warp a block,
// a tile of 32 rows of float32 in shared memory. The general path; hopper/tensor_codec.cuh has the fast one
// for the usual cases.
#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/refusals.cuh"
#include "rotorquant/device/rotation.cuh"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::device {

struct ScalarView {
  RotationView rotation;
  const float* centroids;   // [2^bits]
  const float* boundaries;  // [2^bits - 1]
  int bits;
  NormType norm_type;
  ScaleRule scale_rule;

  __host__ __device__ int plane_bytes() const { return (rotation.output_dim + 7) / 8; }
  __host__ __device__ int code_bytes() const { return bits * plane_bytes(); }
};

// The index of y: the number of boundaries strictly below it.
__device__ inline unsigned index_of(const float* boundaries, int bits, float y) {
  unsigned index = 0;
  for (int bit = bits - 1; bit >= 0; --bit) {
    const unsigned step = 1U << bit;
    if (boundaries[index + step - 1] < y) index += step;
  }
  return index;
}

__device__ inline unsigned read_index(const std::uint8_t* planes, int plane_bytes, int bits, int c) {
  unsigned index = 0;
  for (int j = 0; j < bits; ++j) index |= ((planes[j * plane_bytes + c / 8] >> (c % 8)) & 1U) << j;
  return index;
}

// Bytes [0, bytes) between global memory and a warp's shared memory.
__device__ inline void copy_bytes(const std::uint8_t* from, std::uint8_t* to, std::int64_t bytes) {
  for (std::int64_t i = threadIdx.x; i < bytes; i += warp_size) to[i] = from[i];
}

// What one block has in shared memory, in this order.
struct TileLayout {
  int pitch;       // floats between rows
  int row_floats;  // all rows
  int table_floats;
  int code_bytes;

  explicit __host__ __device__ TileLayout(const ScalarView& codec)
      : pitch(row_pitch(codec.rotation.output_dim)),
        row_floats(codec.rotation.rows() * warp_size * pitch),
        table_floats(2 << codec.bits),
        code_bytes(warp_size * codec.code_bytes()) {}
  __host__ __device__ std::size_t bytes() const {
    return 4U * static_cast<std::size_t>(row_floats + table_floats) + static_cast<std::size_t>(code_bytes);
  }
};

// The arrays of a tile and the thread's own rows in it.
struct Tile {
  float* row;           // [dim]
  float* other;         // [dim], if the rotation needs it
  float* table;         // [2^(bits + 1)]
  std::uint8_t* codes;  // [32, code_bytes]
  float* rows;

  __device__ Tile(const TileLayout& layout, float* memory)
      : row(memory + threadIdx.x * layout.pitch),
        other(row + warp_size * layout.pitch),
        table(memory + layout.row_floats),
        codes(reinterpret_cast<std::uint8_t*>(table + layout.table_floats)),
        rows(memory) {}
};

// Centroids of the thread's row from the codes in shared memory.
__device__ inline void read_centroids(const ScalarView& codec, const Tile& tile) {
  const std::uint8_t* const planes = tile.codes + threadIdx.x * codec.code_bytes();
  const int stride = codec.plane_bytes();
  for (int c = 0; c < codec.rotation.output_dim; ++c) {
    tile.row[c] = tile.table[read_index(planes, stride, codec.bits, c)];
  }
}

// Fills the tile's code bytes and centroid table, then the rows with centroids, and returns the thread's
// scale. Ends with the warp in step.
__device__ inline float load_tile(const ScalarView& codec, const std::uint8_t* codes,
                                  const std::uint8_t* norms, std::int64_t first, int count,
                                  const Tile& tile) {
  copy_bytes(codes + first * codec.code_bytes(), tile.codes,
             static_cast<std::int64_t>(count) * codec.code_bytes());
  for (int i = threadIdx.x; i < 1 << codec.bits; i += warp_size) tile.table[i] = codec.centroids[i];
  __syncwarp();
  float scale = 0.0F;
  if (static_cast<int>(threadIdx.x) < count) {
    read_centroids(codec, tile);
    scale = codec.scale_rule == ScaleRule::none ? 1.0F
                                                : load_norm_at(codec.norm_type, norms, first + threadIdx.x);
  }
  __syncwarp();
  return scale;
}

// Norm of the thread's row in float64, summed in the CPU's order (core/dot_product.hpp).
__device__ inline double squared_norm_of(const float* row, int dim) {
  double lanes[8] = {};
  for (int i = 0; i < dim; i += 8) {
#pragma unroll
    for (int lane = 0; lane < 8; ++lane) {
      if (i + lane < dim) {
        const double x = static_cast<double>(row[i + lane]);
        lanes[lane] = __dadd_rn(lanes[lane], __dmul_rn(x, x));
      }
    }
  }
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

void encode_rows(cudaStream_t stream, const ScalarView& codec, const ConstDeviceTensor& x,
                 std::uint8_t* codes, std::uint8_t* norms, unsigned long long* refusals);
void decode_rows(cudaStream_t stream, const ScalarView& codec, const std::uint8_t* codes,
                 const std::uint8_t* norms, const DeviceTensor& x);
// rotated_queries [m, output_dim]: R q. scores [m, n].
void score_rows(cudaStream_t stream, const ScalarView& codec, const float* rotated_queries, std::int64_t m,
                const std::uint8_t* codes, const std::uint8_t* norms, std::int64_t n, float* scores);

}  // namespace rotorquant::device
