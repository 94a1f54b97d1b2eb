#pragma once
// What a warp has in shared memory while it searches the trellis code of one calibrated key, and what it
// measures there (CalibratedTrellis::measure): errors and gradients of four paths at a time.
//
// A path is kept as the places u 2^(M+1) + r of its values in the tables of their widths, in storage order.
#include <type_traits>

#include "rotorquant/device/calibrated_tile.cuh"
#include "rotorquant/device/calibrated_trellis_tables.cuh"
#include "rotorquant/device/trellis_recursion.cuh"

namespace rotorquant::device {

inline constexpr int paths_together = 4;
inline constexpr int gradient_columns = 2;  // of a lane at a time

// In words of 4 bytes, in this order.
struct TrellisWarpLayout {
  int dim4;        // dim up to a multiple of four
  int path_pitch;  // words of a path
  int paths;       // finalists, the best path, a group of four
  int step_pitch;  // words of a path's steps; its survivors have as many as it has coordinates
  int survivor_pitch;
  int scratch;  // steps, survivors and states of a group, or the rows of the search with feedback

  __host__ __device__ TrellisWarpLayout(int dim, const CalibratedTrellisView& t)
      : dim4((dim + 3) / 4 * 4),
        path_pitch((dim + 7) / 8 * 4),
        paths(finalists(t) + 1 + paths_together),
        step_pitch((t.used + 3) / 4 * 4 * 4),
        survivor_pitch((t.used > trellis::seam_context ? t.used + 3 : trellis::seam_context + 3) / 4 * 4) {
    const int group = paths_together * (step_pitch + survivor_pitch + (t.used + 3) / 4);
    const int rows = t.used << t.memory;
    scratch = ((group > rows ? group : rows) + 3) / 4 * 4;
  }
  __host__ __device__ int words() const { return (9 * dim4 + paths * path_pitch + scratch + 3) / 4 * 4; }
  static __host__ __device__ int finalists(const CalibratedTrellisView& t) {
    return t.refinements > 0 ? t.refinements : 1;
  }
};

__device__ __forceinline__ int lane_of_warp() {
  return static_cast<int>(threadIdx.x % warp_size);
}

// Levels of a codec's trellis, those of narrow symbols in shared memory. Rows are packed where no symbol has
// 8 bits.
template <bool half_rows>
struct TrellisLevelReader {
  using Row = std::conditional_t<half_rows, uint2, float4>;
  const CalibratedTrellisView& t;
  const float* shared_values;
  const uint2* shared_rows;
  const float* factors;  // CalibratedTrellisView::factors, in shared memory if there

  __device__ __forceinline__ const float* values(const TrellisWidthView& width) const {
    return values_from(width.first_value);
  }
  __device__ __forceinline__ const float* values_from(int first) const {
    return (first < t.shared_values ? shared_values : t.values) + first;
  }
  __device__ __forceinline__ const Row* rows(const TrellisWidthView& width) const {
    if constexpr (half_rows) {
      return (width.first_row < t.shared_rows ? shared_rows : t.packed_rows) + width.first_row;
    } else {
      return t.rows + width.first_row;
    }
  }
  // m and h of r = q, or with `upper` r = q + 2^M, of a row.
  static __device__ __forceinline__ float2 half_of(const Row& row, bool upper) {
    if constexpr (half_rows) {
      const std::uint32_t word = reinterpret_cast<const std::uint32_t*>(&row)[upper ? 1 : 0];
      return make_float2(__uint_as_float(word & 0xFFFF0000U), __uint_as_float(word << 16));
    } else {
      return reinterpret_cast<const float2*>(&row)[upper ? 1 : 0];
    }
  }
  static __device__ __forceinline__ float4 unpack(const Row& row) {
    if constexpr (half_rows) {
      return trellis_search::unpack_row(row);
    } else {
      return row;
    }
  }
};

// A centroid's column after F and a scale, for a path.
struct TrellisPair {
  const float* centroid;  // coordinate k at [k centroid_stride]
  float scale;
};

// Four paths, of which lane j, j + 4, ... hold the j-th: its pair (KeyChoice::pack) and its number.
struct TrellisGroup {
  int pair;
  int path;
};

template <bool half_rows>
class TrellisWarp {
 public:
  // `column`: the key's F (x - h) / sigma, coordinate k at [k column_pitch].
  __device__ TrellisWarp(const CalibratedView& codec, const TrellisLevelReader<half_rows>& levels,
                         const TrellisWarpLayout& layout, float* memory, const float* column)
      : codec_(codec),
        levels_(levels),
        layout_(layout),
        column_(column),
        errors_(reinterpret_cast<float4*>(memory)),
        gradients_(errors_ + layout.dim4),
        residual_(memory + 8 * layout.dim4),
        paths_(reinterpret_cast<std::uint16_t*>(residual_ + layout.dim4)),
        scratch_(reinterpret_cast<float*>(paths_) + layout.paths * layout.path_pitch) {}

  __device__ std::uint16_t* path(int i) const { return paths_ + i * 2 * layout_.path_pitch; }
  __device__ float* scratch() const { return scratch_; }
  __device__ float* residual() const { return residual_; }
  __device__ const TrellisLevelReader<half_rows>& levels() const { return levels_; }
  // Coordinate k at [4 k].
  __device__ float* gradient(int path_of_group) const {
    return reinterpret_cast<float*>(gradients_) + path_of_group;
  }

  __device__ TrellisPair pair(const TrellisGroup& group, int j) const {
    const KeyChoice choice = KeyChoice::unpack(__shfl_sync(trellis_search::all_lanes, group.pair, j));
    return {codec_.transformed + choice.centroid, __ldg(codec_.scales + choice.scale_code)};
  }
  // Coordinate k of the key less the pair's centroid.
  __device__ __forceinline__ float residual_of(const TrellisPair& pair, int k) const {
    return __fsub_rn(column_[k * column_pitch],
                     __ldg(pair.centroid + static_cast<std::int64_t>(k) * codec_.centroid_stride));
  }

  __device__ void copy_path(int from, int to) const {
    const auto* const source = reinterpret_cast<const std::uint32_t*>(path(from));
    auto* const target = reinterpret_cast<std::uint32_t*>(path(to));
    for (int i = lane_of_warp(); i < layout_.path_pitch; i += warp_size) target[i] = source[i];
    __syncwarp();
  }

  // Leaves metric times error in the gradients and returns the cost of the lane's path.
  __device__ float measure(const TrellisGroup& group) const {
    const std::uint16_t* path_of[paths_together];
    TrellisPair pair_of[paths_together];
#pragma unroll
    for (int j = 0; j < paths_together; ++j) {
      path_of[j] = path(__shfl_sync(trellis_search::all_lanes, group.path, j));
      pair_of[j] = pair(group, j);
    }
    for (int k = lane_of_warp(); k < codec_.dim; k += warp_size) {
      const bool used = k < levels_.t.used;
      const float* const values = levels_.values_from(used ? __ldg(levels_.t.first_values + k) : 0);
      float error[paths_together];
#pragma unroll
      for (int j = 0; j < paths_together; ++j) {
        const float value = used ? values[path_of[j][k]] : 0.0F;
        error[j] = __fsub_rn(residual_of(pair_of[j], k), __fmul_rn(pair_of[j].scale, value));
      }
      errors_[k] = make_float4(error[0], error[1], error[2], error[3]);
    }
    __syncwarp();
    for (int begin = 0; begin < codec_.dim; begin += gradient_columns * warp_size) add_gradients(begin);
    __syncwarp();
    // dot_product.hpp: running sum l of path j in lane 4 l + j.
    const auto* const errors = reinterpret_cast<const float*>(errors_);
    const auto* const gradients = reinterpret_cast<const float*>(gradients_);
    double sum = 0.0;
    for (int i = lane_of_warp(); i < paths_together * codec_.dim; i += warp_size)
      sum = __dadd_rn(sum, __dmul_rn(static_cast<double>(errors[i]), static_cast<double>(gradients[i])));
#pragma unroll
    for (int step = 16; step >= paths_together; step /= 2)
      sum = __dadd_rn(sum, __shfl_xor_sync(trellis_search::all_lanes, sum, step));
    __syncwarp();
    return __double2float_rn(sum);
  }

  static __device__ __forceinline__ int lane_of_warp() {
    return static_cast<int>(threadIdx.x % warp_size);
  }

 private:
  __device__ void add_gradients(int begin) const {
    float sums[gradient_columns][paths_together] = {};
    const float* from[gradient_columns];
#pragma unroll
    for (int c = 0; c < gradient_columns; ++c)
      from[c] = codec_.metric + min(begin + c * warp_size + lane_of_warp(), codec_.dim - 1);
#pragma unroll 4
    for (int k = 0; k < codec_.dim; ++k) {
      const float4 error = errors_[k];
#pragma unroll
      for (int c = 0; c < gradient_columns; ++c) {
        const float factor = __ldg(from[c] + static_cast<std::int64_t>(k) * codec_.metric_stride);
        sums[c][0] = __fadd_rn(sums[c][0], __fmul_rn(error.x, factor));
        sums[c][1] = __fadd_rn(sums[c][1], __fmul_rn(error.y, factor));
        sums[c][2] = __fadd_rn(sums[c][2], __fmul_rn(error.z, factor));
        sums[c][3] = __fadd_rn(sums[c][3], __fmul_rn(error.w, factor));
      }
    }
#pragma unroll
    for (int c = 0; c < gradient_columns; ++c) {
      const int column = begin + c * warp_size + lane_of_warp();
      if (column < codec_.dim)
        gradients_[column] = make_float4(sums[c][0], sums[c][1], sums[c][2], sums[c][3]);
    }
  }

  const CalibratedView& codec_;
  const TrellisLevelReader<half_rows>& levels_;
  const TrellisWarpLayout& layout_;
  const float* column_;
  float4 *errors_, *gradients_;
  float* residual_;
  std::uint16_t* paths_;
  float* scratch_;
};

}  // namespace rotorquant::device
