#pragma once
// Calibrated keys (quantizers/calibrated.hpp) of any dim: one thread a key where they are encoded, two keys a
// thread where they are decoded, as columns of a warp's shared memory. Every product and sum is rounded as on
// the CPU, whose codes and numbers these are bit for bit: a choice here depends on all coordinates.
//
// The general path; scores after RoPE and attention have tensor-core kernels (hopper/calibrated_scores.cu).
#include "rotorquant/device/calibrated_trellis_tables.cuh"
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/device/rotation.cuh"

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

  // Centroids with a full search.
  __host__ __device__ int tried_centroids() const { return centroid_choices > 0 ? centroid_choices : 1; }
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

// codes [n]: of x [n, dim], in scalar levels.
void encode_calibrated_rows(cudaStream_t stream, const CalibratedView& codec, const ConstDeviceTensor& x,
                            std::uint8_t* codes, unsigned long long* refusals);
// The trellis of codes in scalar levels has no used coordinates.
void decode_calibrated_rows(cudaStream_t stream, const CalibratedView& codec,
                            const CalibratedTrellisView& trellis, const std::uint8_t* codes,
                            const DeviceTensor& x, unsigned long long* refusals);
// queries [m, dim], scores [m, n]: of keys before RoPE.
void score_calibrated_rows(cudaStream_t stream, const CalibratedView& codec,
                           const CalibratedTrellisView& trellis, const float* queries, std::int64_t m,
                           const std::uint8_t* codes, std::int64_t n, float* scores,
                           unsigned long long* refusals);

}  // namespace rotorquant::device
