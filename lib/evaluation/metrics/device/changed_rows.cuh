#pragma once
// changed_row.hpp and top_keys.hpp for a row of attention by sixteen threads, each of which is a lane of the
// CPU's vectors.
#include <cmath>
#include <cstdint>

#include "evaluation/metrics/changed_row.hpp"
#include "evaluation/metrics/integer_product.hpp"
#include "evaluation/metrics/output_sums.hpp"
#include "evaluation/metrics/top_keys.hpp"
#include "rotorquant/core/exponentials.hpp"

namespace rotorquant::evaluation::device {

inline constexpr int lanes = 16;

// Sums over one row, as the CPU adds them up over the rows of a cell.
struct RowResult {
  double error;
  double squared_error;
  double error_truth;
  double expected_error;
  double second_order;  // G; NaN where scores change by more than float32 exponentials stand
  double shift;         // then: the largest estimate times the softmax scale, and Σ exp(estimate - shift)
  double sum;
  OutputSums output;
  std::int32_t common;  // of the keys selected
  std::int32_t first;   // 1: the largest is the same
};

// The lanes of one row.
struct LaneGroup {
  int lane;
  unsigned members;

  __device__ LaneGroup() : lane(static_cast<int>(threadIdx.x) % lanes) {
    members = 0xFFFFU << (threadIdx.x / lanes % 2 * lanes);
  }
  template <typename T>
  __device__ T get(T x, int from) const {
    return __shfl_sync(members, x, from, lanes);
  }
  __device__ std::int32_t sum(std::int32_t x) const {
    for (int step = lanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(members, x, step, lanes);
    return x;
  }
  template <typename T>
  __device__ T largest(T x) const {
    for (int step = lanes / 2; step > 0; step /= 2) x = max(x, __shfl_xor_sync(members, x, step, lanes));
    return x;
  }
  // In the order of the lanes.
  __device__ float ordered_sum(float x) const {
    float total = 0.0F;
    for (int from = 0; from < lanes; ++from) total += get(x, from);
    return total;
  }
};

// Σ of float32 in float64: a part of sixteen terms a lane in float32, then lanes l and l + 8 together, then
// these in their order.
class DeviceLaneSum {
 public:
  __device__ void add(float term) { part_ += term; }
  __device__ void add_product(float a, float b) { part_ = multiply_add(a, b, part_); }
  __device__ void carry() {
    sum_ += static_cast<double>(part_);
    part_ = 0.0F;
  }
  __device__ double total(const LaneGroup& group) const {
    const double sum = sum_ + group.get(sum_, (group.lane + lanes / 2) % lanes);
    double total = 0.0;
    for (int from = 0; from < lanes / 2; ++from) total += group.get(sum, from);
    return total;
  }

 private:
  float part_ = 0.0F;
  double sum_ = 0.0;
};

inline constexpr int float_terms = 16;  // vectors between two carries

// One row's exact attention, 0 from `visible` to the next multiple of 16.
struct DeviceRow {
  std::int32_t visible;
  const float* products;
  const float* probabilities;
  const TopKeys* top;
  double softmax_scale;
  float mean_product;
};

// Of the row's own keys that rank among the eight largest estimates, how many do, and whether the first is
// the first.
__device__ inline void overlap_row(const LaneGroup& group, const DeviceRow& row, const float* errors,
                                   RowResult& result) {
  const TopKeys& top = *row.top;
  float scores[top_key_count];
  std::int32_t ranks[top_key_count] = {};
  float weakest = INFINITY;
#pragma unroll
  for (int k = 0; k < top_key_count; ++k) {
    if (k >= top.count) continue;
    const std::int32_t key = top.index[static_cast<std::size_t>(k)];
    scores[k] = row.products[key] + errors[key];
    if (scores[k] < weakest) weakest = scores[k];
  }
  for (std::int32_t j = group.lane; j < row.visible; j += lanes) {
    const float score = row.products[j] + errors[j];
    if (!(score >= weakest)) continue;
#pragma unroll
    for (int k = 0; k < top_key_count; ++k) {
      if (k >= top.count) continue;
      const bool ties = score == scores[k] && j < top.index[static_cast<std::size_t>(k)];
      ranks[k] += score > scores[k] || ties ? 1 : 0;
    }
  }
  result.common = 0;
  result.first = 0;
#pragma unroll
  for (int k = 0; k < top_key_count; ++k) {
    if (k >= top.count) continue;
    const std::int32_t rank = group.sum(ranks[k]);
    if (isnan(scores[k])) continue;
    if (k == 0 && rank == 0) result.first = 1;
    result.common += rank < static_cast<std::int32_t>(top_key_count) ? 1 : 0;
  }
}

// The row's sums. errors [padded] is 0 beyond what the row sees. Returns the largest |x|, or NaN.
__device__ inline float sum_row(const LaneGroup& group, const DeviceRow& row, std::int32_t padded,
                                float* errors, RowResult& result) {
  DeviceLaneSum error_sum, squares, error_truth, expected;
  float least = INFINITY, most = -INFINITY;
  for (std::int32_t begin = 0; begin < padded; begin += float_terms * lanes) {
    const std::int32_t end = min(begin + float_terms * lanes, padded);
    for (std::int32_t j = begin + group.lane; j < end; j += lanes) {
      if (j >= row.visible) errors[j] = 0.0F;
      const float error = errors[j];
      least = fminf(least, error);
      most = fmaxf(most, error);
      error_sum.add(error);
      squares.add_product(error, error);
      error_truth.add_product(error, row.products[j] - row.mean_product);
      expected.add_product(row.probabilities[j], error);
    }
    error_sum.carry();
    squares.carry();
    error_truth.carry();
    expected.carry();
  }
  result.error = error_sum.total(group);
  result.squared_error = squares.total(group);
  result.error_truth = error_truth.total(group);
  result.expected_error = expected.total(group);
  // Rounding keeps order: no other error gives a larger change.
  const auto scale = static_cast<float>(row.softmax_scale);
  const auto mean = static_cast<float>(result.expected_error);
  return fmaxf(fabsf(scale * (group.largest(most) - mean)), fabsf(scale * (-group.largest(-least) - mean)));
}

// errors: e -> p̂ - p.
__device__ inline void change_narrowly(const LaneGroup& group, const DeviceRow& row, std::int32_t padded,
                                       float* errors, RowResult& result) {
  const auto scale = static_cast<float>(row.softmax_scale);
  const auto mean = static_cast<float>(result.expected_error);
  DeviceLaneSum second_order;
  for (std::int32_t begin = 0; begin < padded; begin += float_terms * lanes) {
    const std::int32_t end = min(begin + float_terms * lanes, padded);
    for (std::int32_t j = begin + group.lane; j < end; j += lanes) {
      const float x = scale * (errors[j] - mean);
      const float probability = row.probabilities[j];
      const float g = second_order_exponential<float, std::uint32_t>(x);
      second_order.add_product(probability, g);
      errors[j] = probability * (x + g);
    }
    second_order.carry();
  }
  result.second_order = second_order.total(group);
  const auto shift = static_cast<float>(result.second_order);
  const auto inverse = static_cast<float>(1.0 / (1.0 + result.second_order));
  for (std::int32_t j = group.lane; j < padded; j += lanes) {
    errors[j] = multiply_add(row.probabilities[j], -shift, errors[j]) * inverse;
  }
}

// The same in float64 by the first eight threads, as many as a vector has lanes.
__device__ inline void change_widely(const LaneGroup& group, const DeviceRow& row, std::int32_t padded,
                                     float* errors, RowResult& result) {
  constexpr int wide_lanes = lanes / 2;
  float most = -INFINITY;
  for (std::int32_t j = group.lane; j < row.visible; j += lanes)
    most = fmaxf(most, row.products[j] + errors[j]);
  result.second_order = NAN;
  result.shift = row.softmax_scale * static_cast<double>(group.largest(most));
  const auto power = [&](std::int32_t j) {
    return share_exponential<double, long long>(
        static_cast<double>(row.products[j] + errors[j]) * row.softmax_scale - result.shift);
  };
  double sum = 0.0;
  if (group.lane < wide_lanes) {
    for (std::int32_t j = group.lane; j < row.visible; j += wide_lanes) sum += power(j);
  }
  result.sum = 0.0;
  for (int from = 0; from < wide_lanes; ++from) result.sum += group.get(sum, from);
  __syncwarp(group.members);  // all have read the errors
  for (std::int32_t j = group.lane; j < padded; j += lanes) {
    errors[j] = j < row.visible
                    ? static_cast<float>(power(j) / result.sum - static_cast<double>(row.probabilities[j]))
                    : 0.0F;
  }
}

// errors: e -> p̂ - p; fills in the row's sums, its overlap and what its divergence is made of.
__device__ inline void change_row(const LaneGroup& group, const DeviceRow& row, float* errors,
                                  RowResult& result) {
  const std::int32_t padded = (row.visible + lanes - 1) / lanes * lanes;
  const float largest = sum_row(group, row, padded, errors, result);
  overlap_row(group, row, errors, result);
  __syncwarp(group.members);  // all have read the errors
  if (largest <= largest_change) {
    change_narrowly(group, row, padded, errors, result);
  } else {
    change_widely(group, row, padded, errors, result);
  }
}

// The scale of a chunk of 128 elements whose squares add up to `squares`, or whose largest is not of
// float32's middle range.
struct ChunkScale {
  float factor;
  float inverse;
};

__device__ inline ChunkScale scale_of(float largest, float squares) {
  if (!(largest >= smallest_element)) return {0.0F, 0.0F};
  const float norm = largest * sqrtf(squares);
  return {rounded_norm / norm, norm / rounded_norm};
}

__device__ inline ChunkScale chunk_scale(const LaneGroup& group, const float* x, std::int32_t count) {
  float plain = 0.0F;
  for (std::int32_t i = group.lane; i < count; i += lanes) plain = multiply_add(x[i], x[i], plain);
  plain = group.ordered_sum(plain);
  if (plain > least_squares && plain < most_squares) return scale_of(1.0F, plain);
  float largest = 0.0F;
  for (std::int32_t i = group.lane; i < count; i += lanes) largest = fmaxf(largest, fabsf(x[i]));
  largest = group.largest(largest);
  const float inverse = largest >= smallest_element ? 1.0F / largest : 0.0F;
  float squares = 0.0F;
  for (std::int32_t i = group.lane; i < count; i += lanes) {
    const float share = x[i] * inverse;
    squares = multiply_add(share, share, squares);
  }
  return scale_of(largest, group.ordered_sum(squares));
}

// p̂ - p, rounded to `changes` [stride] and `scales` [chunks]. The stride may reach beyond the last chunk.
__device__ inline void round_changes(const LaneGroup& group, std::int32_t visible, const float* errors,
                                     std::int32_t stride, std::int32_t chunks, std::int16_t* changes,
                                     float* scales) {
  const std::int32_t padded = (visible + lanes - 1) / lanes * lanes;
  for (std::int32_t chunk = 0; chunk < chunks; ++chunk) {
    const std::int32_t begin = chunk * static_cast<std::int32_t>(chunk_depth);
    const std::int32_t end = min(begin + static_cast<std::int32_t>(chunk_depth), padded);
    ChunkScale scale = {};
    if (begin < end) scale = chunk_scale(group, errors + begin, end - begin);
    for (std::int32_t j = begin + group.lane; j < end; j += lanes) {
      changes[j] =
          static_cast<std::int16_t>(__float_as_int(multiply_add(errors[j], scale.factor, rounding_shift)));
    }
    if (group.lane == 0) scales[chunk] = scale.inverse;
  }
  for (std::int32_t j = padded + group.lane; j < stride; j += lanes) changes[j] = 0;
}

}  // namespace rotorquant::evaluation::device
