#pragma once
// Calibrated keys (quantizers/calibrated.hpp) with scalar levels, of any dim: one thread a key, one warp a
// block of 32, as columns [dim, 32] of shared memory. Every product and sum is rounded as on the CPU, whose
// codes and numbers these are bit for bit: a choice here depends on all coordinates.
//
// The general path; scores after RoPE and attention have tensor-core kernels (hopper/calibrated_scores.cu).
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/device/rotation.cuh"
#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant::device {

// CascadeStep for loads of 16 bytes.
struct alignas(16) ColumnStep {
  int slots[4];
  float factors[8];
};
// Steps that run at once: steps of one group touch different slots. Groups are filled up with steps over
// three slots behind the column.
inline constexpr int steps_together = 4;
inline constexpr int spare_slots = 3;

struct ColumnProgram {
  const ColumnStep* steps;
  int group_count;
};

// A storage position's place in a column and the factor of its levels, which begin at `levels`.
struct alignas(16) LevelPlace {
  int slot;
  float scale;
  int levels;
  int padding;
};

struct CalibratedView {
  int dim, code_bytes;
  int ends[max_width + 1];  // LevelSearch::ends
  int centroid_count, centroid_bits, scale_bits;
  int scale_radius, centroid_choices, descent_sweeps;  // CalibratedSearch
  double least_energy;
  ColumnProgram forward, backward;
  const int* input_slots;     // [dim]: forward's
  const float* input_scales;  // [dim]
  const LevelPlace* places;   // [dim]: backward's
  const float* levels;        // of width w at 2^w; [2^(max_width + 1)]
  const float* boundaries;    // the same, 2^w - 1 of them
  const float* shift;         // [dim]
  const float* centroids;     // [dim, centroid_stride]
  const float* transformed;   // [dim, centroid_stride]: F c / sigma
  int centroid_stride;        // a multiple of centroids_together
  const float* offsets;       // [C, dim]: c + h
  const float* scales;        // [2^scale_bits]
  const double* energies;     // [2^scale_bits - 1]
  const float* diagonal;      // [dim]
  const float* metric;        // [dim, metric_stride]
  int metric_stride;          // a multiple of 16

  __host__ __device__ int scale_bit() const { return centroid_bit() + centroid_bits; }
  // Where the field behind the planes begins.
  __host__ __device__ int centroid_bit() const {
    int bits = 0;
    for (int width = 1; width <= max_width; ++width) bits += ends[width];
    return bits;
  }
};

inline constexpr int level_table = 2 << max_width;
inline constexpr int centroids_together = 8;  // whose distances and costs are summed at a time

// Columns of a warp's 32 keys: coordinate i of the thread's at [column_pitch * i]. The pitch keeps both a
// column and a row in 32 banks.
inline constexpr int column_pitch = warp_size + 1;

// What a warp has in shared memory, in this order.
struct CalibratedTile {
  int columns;  // floats of one array
  int arrays;
  int choices;     // centroids with a full search, or 0
  int code_bytes;  // of 32 keys
  int symbols;

  __host__ __device__ CalibratedTile(const CalibratedView& codec, bool encodes)
      : columns((codec.dim + spare_slots) * column_pitch),
        arrays(encodes ? 2 : 1),
        choices(encodes ? codec.centroid_choices : 0),
        code_bytes((warp_size * codec.code_bytes + 15) / 16 * 16),
        symbols(encodes ? codec.dim * warp_size : 0) {}
  __host__ __device__ int choice_offset() const { return 4 * (2 * level_table + arrays * columns); }
  __host__ __device__ int code_offset() const {
    return (choice_offset() + 2 * 4 * warp_size * choices + 15) / 16 * 16;
  }
  __host__ __device__ int symbol_offset() const { return code_offset() + code_bytes; }
  __host__ __device__ std::size_t bytes() const {
    return static_cast<std::size_t>(symbol_offset() + symbols);
  }
};

// The warp's arrays; `column` and `other` are the thread's.
struct CalibratedArrays {
  float *levels, *boundaries;
  float *columns, *column, *other;
  float* costs;  // [choices, 32], the thread's of each
  int* choices;  // the same
  std::uint8_t* codes;
  std::uint8_t* symbols;  // [dim, 32], the thread's

  __device__ CalibratedArrays(const CalibratedTile& tile, std::uint8_t* memory)
      : levels(reinterpret_cast<float*>(memory)),
        boundaries(levels + level_table),
        columns(boundaries + level_table),
        column(columns + threadIdx.x),
        other(column + tile.columns),
        costs(reinterpret_cast<float*>(memory + tile.choice_offset()) + threadIdx.x),
        choices(reinterpret_cast<int*>(costs + warp_size * tile.choices)),
        codes(memory + tile.code_offset()),
        symbols(memory + tile.symbol_offset() + threadIdx.x) {}

  __device__ void load_tables(const CalibratedView& codec) const {
    for (int i = static_cast<int>(threadIdx.x); i < level_table; i += warp_size) {
      levels[i] = codec.levels[i];
      boundaries[i] = codec.boundaries[i];
    }
  }
};

// The thread's column through the cascade (run_steps).
__device__ inline void run_columns(const ColumnProgram& program, float* column) {
  for (int group = 0; group < program.group_count; ++group) {
    const auto* const words = reinterpret_cast<const uint4*>(program.steps + group * steps_together);
    uint4 slots[steps_together], low[steps_together], high[steps_together];
    float in[steps_together][3];
#pragma unroll
    for (int s = 0; s < steps_together; ++s) {
      slots[s] = __ldg(words + 3 * s);
      low[s] = __ldg(words + 3 * s + 1);
      high[s] = __ldg(words + 3 * s + 2);
      in[s][0] = column[slots[s].x * column_pitch];
      in[s][1] = column[slots[s].y * column_pitch];
      in[s][2] = column[slots[s].z * column_pitch];
    }
#pragma unroll
    for (int s = 0; s < steps_together; ++s) {
      const float x = in[s][0], y = in[s][1], z = in[s][2];
      column[slots[s].x * column_pitch] =
          fmaf(__uint_as_float(low[s].y), z, fmaf(__uint_as_float(low[s].x), y, x));
      column[slots[s].y * column_pitch] =
          fmaf(__uint_as_float(low[s].w), z, fmaf(__uint_as_float(low[s].z), x, y));
      column[slots[s].z * column_pitch] =
          fmaf(__uint_as_float(high[s].y), y, fmaf(__uint_as_float(high[s].x), x, z));
    }
  }
}

// Bytes between global and a warp's shared memory, 16 at a time for the block's 32 codes; fewer ones byte by
// byte.
__device__ inline void copy_codes(const std::uint8_t* from, std::uint8_t* to, int code_bytes, int count) {
  const int lane = static_cast<int>(threadIdx.x);
  if (count == warp_size) {
#pragma unroll 4
    for (int i = lane; i < warp_size * code_bytes / 16; i += warp_size)
      reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
  } else {
    for (int i = lane; i < count * code_bytes; i += warp_size) to[i] = from[i];
  }
}

// codes [n]: of x [n, dim].
void encode_calibrated_rows(cudaStream_t stream, const CalibratedView& codec, const ConstDeviceTensor& x,
                            std::uint8_t* codes, unsigned long long* refusals);
void decode_calibrated_rows(cudaStream_t stream, const CalibratedView& codec, const std::uint8_t* codes,
                            const DeviceTensor& x, unsigned long long* refusals);
// queries [m, dim], scores [m, n]: of keys before RoPE.
void score_calibrated_rows(cudaStream_t stream, const CalibratedView& codec, const float* queries,
                           std::int64_t m, const std::uint8_t* codes, std::int64_t n, float* scores,
                           unsigned long long* refusals);

}  // namespace rotorquant::device
