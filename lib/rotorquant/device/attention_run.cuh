#pragma once
// One call of attention over a source of keys and values: queries rotated, the splits' partial results, their
// joining.
#include <numbers>

#include "rotorquant/device/attention_kernel.cuh"
#include "rotorquant/device/packed_attention.hpp"
#include "rotorquant/device/rotate_rows.cuh"
#include "rotorquant/device/shapes.cuh"

namespace rotorquant::device {

// queries [heads * queries_per_head, dim]. operation: for the message.
void check_attention_size(const char* operation, const AttentionSize& size, DeviceView<const float> queries,
                          std::int64_t dim);

// Joins the splits of every query, divides by the sum of weights, multiplies by `unit` and rotates back
// (nullptr: no rotation). outputs [heads * queries_per_head, dim].
void merge_splits(cudaStream_t stream, const AttentionPartials& partials, const AttentionShape& shape,
                  int dim, float unit, const RowRotation* rotation, float* outputs);

// key_rotation, value_rotation: nullptr where there is none. prepare(extra, parameters): called first, with
// `extra_floats` of scratch memory (aligned to 16 bytes) that is the call's until its end.
template <typename Source, typename Prepare>
void run_attention(cudaStream_t stream, DeviceWorkspace& workspace, const AttentionSize& size,
                   typename Source::Parameters parameters, const RowRotation* key_rotation,
                   const RowRotation* value_rotation, DeviceView<const float> queries,
                   DeviceView<float> outputs, std::int64_t extra_floats, const Prepare& prepare) {
  constexpr int dim = Source::dim;
  check_attention_size("attend", size, queries, dim);
  check_shape("attend: outputs", outputs.rows, outputs.cols, queries.rows, dim);
  const AttentionSplit split = split_attention<Source>(size.heads, size.tokens);
  const std::int64_t slots = size.heads * split.splits * queries_together;
  auto* const extra = static_cast<float*>(workspace.reserve(
      (extra_floats + slots * (dim + 2) + queries.size()) * static_cast<std::int64_t>(sizeof(float))));
  prepare(extra, parameters);
  float* const scratch = extra + extra_floats;
  const AttentionPartials partials{scratch, reinterpret_cast<float2*>(scratch + slots * dim)};
  const float* rotated = queries.data;
  if (key_rotation != nullptr) {
    float* const rows = scratch + slots * (dim + 2);
    key_rotation->apply(stream, queries.data, queries.rows, rows);
    rotated = rows;
  }
  const AttentionShape shape{size.heads,   static_cast<int>(size.queries_per_head),
                             size.tokens,  split.tokens_per_split,
                             split.splits, size.scale * std::numbers::log2e_v<float>};
  launch_attention<Source>(stream, parameters, shape, rotated, partials);
  merge_splits(stream, partials, shape, dim, Source::output_unit(parameters), value_rotation, outputs.data);
}

template <typename Source>
void run_attention(cudaStream_t stream, DeviceWorkspace& workspace, const AttentionSize& size,
                   const typename Source::Parameters& parameters, const RowRotation* key_rotation,
                   const RowRotation* value_rotation, DeviceView<const float> queries,
                   DeviceView<float> outputs) {
  run_attention<Source>(stream, workspace, size, parameters, key_rotation, value_rotation, queries, outputs,
                        0, [](float*, typename Source::Parameters&) {});
}

}  // namespace rotorquant::device
