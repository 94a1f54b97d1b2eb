#pragma once
// The four kernels that measure a cell: what quantization changes in scores, in attention and in outputs, and
// the squares of the latter.
#include <cstdint>

#include "evaluation/metrics/device/changed_rows.cuh"
#include "evaluation/metrics/device/integer_tiles.cuh"
#include "evaluation/metrics/output_sums.hpp"

namespace rotorquant::evaluation::device {

inline constexpr int warps = 4;  // a block
inline constexpr int threads = 32 * warps;
inline constexpr int rows_at_once = threads / lanes;
inline constexpr auto panel_cols = static_cast<int>(integer_panel_width);

// Where the pairs of a row lie.
struct RowPlace {
  std::int64_t pairs;
  std::int32_t stride;
  std::int32_t visible;
};

// e = queries times Δk -> errors, the pairs of the tiles; only for panels that a row of the tile sees.
static __global__ void __launch_bounds__(threads)
    key_errors_kernel(const RowTile* tiles, DeviceRows queries, int dim, DevicePanels keys, float* errors) {
  const RowTile tile = tiles[blockIdx.x];
  const int panel = static_cast<int>(blockIdx.y) * warps + static_cast<int>(threadIdx.x) / 32;
  if (panel * panel_cols >= tile.keys) return;
  multiply_tile(
      [&](int r) { return queries.values + (tile.first + min(r, tile.rows - 1)) * queries.stride; },
      [&](int r, int chunk) {
        return queries
            .scales[(tile.first + min(r, tile.rows - 1)) * static_cast<std::int64_t>(queries.scale_stride) +
                    chunk];
      },
      dim, keys, panel,
      [&](int r, int c, float x) {
        const int key = panel * panel_cols + c;
        if (r < tile.rows && key < tile.stride)
          errors[tile.pairs + static_cast<std::int64_t>(r) * tile.stride + key] = x;
      });
}

// One of the products with values: the weights of the tiles' pairs times `values` -> out [rows, padded_cols].
struct OutputProduct {
  DeviceRows weights;
  DevicePanels values;
  float* out;
};
struct OutputProducts {
  OutputProduct of[3];
};

static __global__ void __launch_bounds__(threads)
    outputs_kernel(const RowTile* tiles, OutputProducts products) {
  const RowTile tile = tiles[blockIdx.x];
  const OutputProduct& product = products.of[blockIdx.z];
  const int panel = static_cast<int>(blockIdx.y) * warps + static_cast<int>(threadIdx.x) / 32;
  if (panel * panel_cols >= product.values.padded_cols) return;
  multiply_tile(
      [&](int r) {
        return product.weights.values + tile.pairs +
               static_cast<std::int64_t>(min(r, tile.rows - 1)) * tile.stride;
      },
      [&](int r, int chunk) {
        return product.weights.scales[(tile.first + min(r, tile.rows - 1)) *
                                          static_cast<std::int64_t>(product.weights.scale_stride) +
                                      chunk];
      },
      tile.keys, product.values, panel,
      [&](int r, int c, float x) {
        if (r >= tile.rows) return;
        product.out[static_cast<std::int64_t>(tile.first + r) * product.values.padded_cols +
                    panel * panel_cols + c] = x;
      });
}

struct ChangeRows {
  std::int64_t rows;
  const RowPlace* places;
  const float* products;
  const float* probabilities;
  const TopKeys* top;
  double softmax_scale;
  float mean_product;
  float* errors;
  std::int16_t* changes;
  float* change_scales;  // [rows, chunks]
  std::int32_t chunks;
  RowResult* results;
};

static __global__ void __launch_bounds__(threads) change_rows_kernel(ChangeRows p) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * rows_at_once + threadIdx.x / lanes;
  if (index >= p.rows) return;
  const LaneGroup group;
  const RowPlace place = p.places[index];
  const DeviceRow row = {place.visible, p.products + place.pairs, p.probabilities + place.pairs,
                         p.top + index, p.softmax_scale,          p.mean_product};
  RowResult result = {};
  change_row(group, row, p.errors + place.pairs, result);
  round_changes(group, place.visible, p.errors + place.pairs, place.stride, p.chunks, p.changes + place.pairs,
                p.change_scales + index * p.chunks);
  if (group.lane == 0) p.results[index] = result;
}

// The sums of squares of the three outputs, each over its columns in their order.
static __global__ void __launch_bounds__(threads)
    square_outputs_kernel(std::int64_t rows, int cols, int stride, const float* by_keys,
                          const float* by_values, const float* by_both, RowResult* results) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (row >= rows) return;
  OutputLanes<double> squares[output_lanes];
  for (std::int64_t c = 0; c < cols; c += output_lanes) {
#pragma unroll
    for (std::int64_t lane = 0; lane < output_lanes; ++lane) {
      const std::int64_t place = row * stride + c + lane;
      if (c + lane < cols) squares[lane].add(by_keys[place], by_values[place], by_both[place]);
    }
  }
  OutputSums sums;
#pragma unroll
  for (std::int64_t lane = 0; lane < output_lanes; ++lane)
    sums.add({squares[lane].keys, squares[lane].values, squares[lane].all});
  results[row].output = sums;
}

}  // namespace rotorquant::evaluation::device
