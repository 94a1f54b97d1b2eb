#pragma once
// The data that a group of GPU operations works on, and whether what an operation left there is right: known
// before anything is timed.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "evaluation/bench/gpu_operations.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/random.hpp"
#include "rotorquant/device/device_memory.hpp"
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/device/packed_attention.hpp"

namespace rotorquant::evaluation {

// Vectors drawn; longer inputs repeat them. No kernel's speed depends on the values.
inline constexpr std::int64_t distinct_vectors = 4096;
inline constexpr std::uint64_t gpu_data_seed = 1;
// Rows that a check compares: the first ones, which hold all distinct vectors once.
inline constexpr std::int64_t checked_rows = 256;

// What the operations of a group share.
struct GpuData {
  BenchShape shape;
  int gpu;
  std::vector<float> drawn;  // [distinct, dim], rounded to the shape's type
  std::int64_t distinct;
  DeviceMemory input;    // [vectors, dim] of shape.type
  DeviceMemory output;   // the same
  DeviceMemory queries;  // [heads * queries_a_head, dim] float32
  DeviceMemory scores;   // [up to queries_a_head, vectors] or [heads * queries_a_head, dim] float32
  ColdTimer timer;
  DeviceWorkspace workspace;
  std::vector<float> query_values;

  static std::int64_t heads_of(const BenchShape& shape) {
    return std::max<std::int64_t>(1, shape.vectors / attended_tokens);
  }
  static std::int64_t query_rows(const BenchShape& shape) { return heads_of(shape) * queries_a_head; }

  GpuData(const BenchShape& given, int on_gpu)
      : shape(given),
        gpu(on_gpu),
        distinct(std::min(distinct_vectors, given.vectors)),
        input(on_gpu, given.vectors * given.dim * element_bytes(given.type)),
        output(on_gpu, input.bytes()),
        queries(on_gpu, 4 * query_rows(given) * given.dim),
        scores(on_gpu, 4 * queries_a_head * std::max(given.vectors, heads_of(given) * given.dim)),
        timer(on_gpu) {
    RandomStream stream(gpu_data_seed, Purpose::synthetic);
    drawn.resize(static_cast<std::size_t>(distinct * shape.dim));
    for (float& value : drawn) value = static_cast<float>(stream.normal());
    std::vector<std::uint8_t> elements(drawn.size() * static_cast<std::size_t>(element_bytes(shape.type)));
    store_elements(shape.type, drawn.data(), distinct * shape.dim, elements.data());
    load_elements(shape.type, elements.data(), distinct * shape.dim, drawn.data());
    input.upload(elements.data(), 0, static_cast<std::int64_t>(elements.size()));
    input.repeat(static_cast<std::int64_t>(elements.size()));
    query_values.resize(static_cast<std::size_t>(query_rows(shape) * shape.dim));
    for (float& value : query_values) value = static_cast<float>(stream.normal());
    queries.upload(query_values.data(), 0, queries.bytes());
  }

  std::int64_t checked() const { return std::min(checked_rows, shape.vectors); }
  HostView<const float> checked_vectors() const { return {drawn.data(), checked(), shape.dim}; }
  ConstDeviceTensor x() const { return {input.data(), shape.type, shape.vectors, shape.dim}; }
  DeviceTensor y() const { return {output.data(), shape.type, shape.vectors, shape.dim}; }
  const float* query() const { return reinterpret_cast<const float*>(queries.data()); }
  float* score_values() const { return reinterpret_cast<float*>(scores.data()); }
  AttentionSize attention() const {
    const std::int64_t tokens = shape.vectors / heads_of(shape);
    return {heads_of(shape), queries_a_head, tokens, tokens, 1.0F / std::sqrt(static_cast<float>(shape.dim))};
  }
};

// A quantizer with the codes of the whole input.
struct GpuSubject {
  std::string text;
  std::shared_ptr<const Quantizer> quantizer;
  std::unique_ptr<DeviceQuantizer> device;
  std::shared_ptr<GpuData> data;
  std::vector<std::unique_ptr<DeviceMemory>> arrays;

  std::int64_t code_bytes() const { return data->shape.vectors * quantizer->layout().bytes_per_vector(); }
  Codes<Space::cuda> codes() const {
    Codes<Space::cuda> view;
    for (std::size_t a = 0; a < arrays.size(); ++a) view.arrays[a] = arrays[a]->data();
    view.count = data->shape.vectors;
    return view;
  }
  void encode() const { device->encode(nullptr, data->x(), codes()); }
  void finish() const { device->finish(nullptr); }
  // The first `count` vectors' codes, as the GPU wrote them.
  CodeBuffer first_codes(std::int64_t count) const {
    CodeBuffer buffer(quantizer->layout(), count);
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      arrays[a]->download(buffer.view().arrays[a], 0,
                          count * quantizer->layout().arrays[a].bytes_per_vector());
    }
    return buffer;
  }
  std::vector<float> decoded(std::int64_t count) const {
    std::vector<float> rows(static_cast<std::size_t>(count * data->shape.dim));
    quantizer->decode({}, first_codes(count).view(), {rows.data(), count, data->shape.dim});
    return rows;
  }
};

// Errors: those of make_device_quantizer.
std::shared_ptr<GpuSubject> make_gpu_subject(const std::shared_ptr<GpuData>& data, const std::string& text,
                                             std::shared_ptr<const Quantizer> quantizer);

// Times runs on the data's GPU, each with other data in the cache.
inline std::function<double(int)> gpu_timer(const std::shared_ptr<GpuData>& data, std::function<void()> run) {
  return [data, run = std::move(run)](int repetitions) { return data->timer.seconds(repetitions, run); };
}

// What a failed check names.
struct CheckedRow {
  std::string operation;
  std::string quantizer;
  std::int64_t index;
};

// Throws an Error unless ‖got - want‖ <= tolerance ‖want‖, both [dim].
void check_row(const float* got, const float* want, std::int64_t dim, double tolerance,
               const CheckedRow& row);

// Each throws an Error that names the operation, the quantizer and the first wrong vector. check_encode and
// check_decode run the operation themselves.
void check_encode(const GpuSubject& subject);
void check_decode(const GpuSubject& subject);
// Scores of the first `queries` queries.
void check_score(const GpuSubject& subject, std::int64_t queries);

// Keys of the first head: writes that of a token, [dim], float64.
using KeyOfToken = std::function<void(std::int64_t token, double* key)>;
// Its tokens repeat the rows [distinct, dim].
KeyOfToken repeated_rows(const GpuData& data, std::vector<float> rows);

// The first checked rows of scores [heads * queries_a_head, tokens] of the first head.
void check_group_scores(const GpuData& data, const KeyOfToken& key_of, const std::string& text);
// The outputs of the first head against float64 attention over its keys and values, which repeat `values`
// [distinct, dim].
void check_attention(const GpuData& data, const KeyOfToken& key_of, const std::vector<float>& values,
                     const std::string& text);

}  // namespace rotorquant::evaluation
