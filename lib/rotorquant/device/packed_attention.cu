#include <algorithm>
#include <cmath>
#include <numbers>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/attention_kernel.cuh"
#include "rotorquant/device/packed_attention.hpp"
#include "rotorquant/device/plane_scores.cuh"
#include "rotorquant/device/rotate_rows.cuh"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::device {
namespace {

// Joins the splits of one query, divides, and rotates back. Block (head, query).
__global__ void merge_splits(AttentionPartials partials, int splits, int dim, int queries_per_head,
                             float unit, bool rotated, RowRotation::View rotation, float* outputs) {
  extern __shared__ float memory[];
  const std::int64_t head = blockIdx.x;
  const int q = static_cast<int>(blockIdx.y);
  const auto state_of = [&](int split) {
    return partials.maxima_and_sums[(head * splits + split) * queries_together + q];
  };
  float joint = -INFINITY, total = 0.0F;
  for (int split = 0; split < splits; ++split) joint = fmaxf(joint, state_of(split).x);
  for (int split = 0; split < splits; ++split) total += exp2f(state_of(split).x - joint) * state_of(split).y;
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += rotate_threads) {
    float value = 0.0F;
    for (int split = 0; split < splits; ++split) {
      const std::int64_t slot = (head * splits + split) * queries_together;
      value += exp2f(state_of(split).x - joint) * partials.outputs[(slot + q) * dim + c];
    }
    memory[c] = value * unit / total;
  }
  __syncthreads();
  const float* const row = rotated ? rotate_row(rotation, true, memory, memory + dim) : memory;
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += rotate_threads) {
    outputs[(head * queries_per_head + q) * dim + c] = row[c];
  }
}

void check_size(const AttentionSize& size, DeviceView<const float> queries, DeviceView<float> outputs,
                std::int64_t dim) {
  const std::int64_t rows = size.heads * size.queries_per_head;
  if (size.heads < 1 || size.heads > 65535 || size.queries_per_head < 1 ||
      size.queries_per_head > queries_together || size.tokens < 1 || size.tokens > size.capacity ||
      size.capacity % 8 != 0) {
    throw Error(
        "attend: " + std::to_string(size.heads) + " heads of " + std::to_string(size.tokens) + " of " +
        std::to_string(size.capacity) + " tokens, " + std::to_string(size.queries_per_head) +
        " queries each; valid: 1 to 65535 heads, 1 to capacity tokens, a capacity that is a multiple of 8, "
        "1 to 8 queries");
  }
  if (queries.rows != rows || queries.cols != dim || outputs.rows != rows || outputs.cols != dim) {
    throw Error("attend: queries of " + std::to_string(queries.rows) + " x " + std::to_string(queries.cols) +
                ", outputs of " + std::to_string(outputs.rows) + " x " + std::to_string(outputs.cols) +
                "; valid: " + std::to_string(rows) + " x " + std::to_string(dim));
  }
}

// One call: rotated queries, partial results and the joining, with scratch memory for all of it.
template <typename Source>
void run(cudaStream_t stream, DeviceWorkspace& workspace, const AttentionSize& size,
         const typename Source::Parameters& parameters, const RowRotation* key_rotation,
         const RowRotation* value_rotation, DeviceView<const float> queries, DeviceView<float> outputs) {
  constexpr int dim = Source::dim;
  check_size(size, queries, outputs, dim);
  const AttentionSplit split = split_attention<Source>(size.heads, size.tokens);
  const std::int64_t slots = size.heads * split.splits * queries_together;
  auto* const scratch = static_cast<float*>(
      workspace.reserve((slots * (dim + 2) + queries.size()) * static_cast<std::int64_t>(sizeof(float))));
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
  const dim3 grid(static_cast<unsigned>(size.heads), static_cast<unsigned>(size.queries_per_head));
  merge_splits<<<grid, rotate_threads, 2 * sizeof(float) * dim, stream>>>(
      partials, split.splits, dim, static_cast<int>(size.queries_per_head), Source::output_unit(parameters),
      value_rotation != nullptr, value_rotation != nullptr ? value_rotation->view() : RowRotation::View{},
      outputs.data);
  check_launch("joining of attention");
}

const ScalarCodec& packed_codec(const Quantizer& quantizer) {
  const auto* const codec = dynamic_cast<const ScalarCodec*>(&quantizer);
  if (codec == nullptr || !has_plane_scores(*codec)) {
    throw Error(
        "attend: no CUDA attention over these codes; valid: scalar codes of 2 to 4 bits and 64 or 128 "
        "coordinates, a "
        "codebook symmetric about 0, norms in fp16");
  }
  return *codec;
}

template <int D, int bits>
class Attention final : public PackedAttention {
 public:
  Attention(const ScalarCodec& keys, const ScalarCodec& values, int gpu)
      : gpu_(gpu),
        key_rotation_(keys.rotation().program()),
        value_rotation_(values.rotation().program()),
        key_centroids_(half_centroids(keys.codebook())),
        value_centroids_(half_centroids(values.codebook())) {}

  void attend(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
              DeviceView<const float> queries, ConstCodes<Space::cuda> keys, ConstCodes<Space::cuda> values,
              DeviceView<float> outputs) const override {
    const CurrentDevice current(gpu_);
    const typename PlaneSource<D, bits>::Parameters parameters{
        {keys.arrays[0], reinterpret_cast<const __half*>(keys.arrays[1]), key_centroids_},
        {values.arrays[0], reinterpret_cast<const __half*>(values.arrays[1]), value_centroids_},
        size.capacity};
    run<PlaneSource<D, bits>>(stream, workspace, size, parameters, &key_rotation_, &value_rotation_, queries,
                              outputs);
  }

 private:
  int gpu_;
  RowRotation key_rotation_, value_rotation_;
  HalfCentroids key_centroids_, value_centroids_;
};

template <int D>
std::unique_ptr<PackedAttention> make_attention(const ScalarCodec& keys, const ScalarCodec& values, int gpu) {
  switch (keys.codebook().bits()) {
    case 2:
      return std::make_unique<Attention<D, 2>>(keys, values, gpu);
    case 3:
      return std::make_unique<Attention<D, 3>>(keys, values, gpu);
    default:
      return std::make_unique<Attention<D, 4>>(keys, values, gpu);
  }
}

}  // namespace
}  // namespace rotorquant::device

namespace rotorquant {

std::unique_ptr<PackedAttention> make_packed_attention(std::shared_ptr<const Quantizer> keys,
                                                       std::shared_ptr<const Quantizer> values, int gpu) {
  const device::CurrentDevice current(gpu);
  const ScalarCodec& key_codec = device::packed_codec(*keys);
  const ScalarCodec& value_codec = device::packed_codec(*values);
  if (key_codec.codebook().bits() != value_codec.codebook().bits() || key_codec.dim() != value_codec.dim()) {
    throw Error("attend: keys of " + std::to_string(key_codec.codebook().bits()) + " bits and " +
                std::to_string(key_codec.dim()) + " coordinates, values of " +
                std::to_string(value_codec.codebook().bits()) + " and " + std::to_string(value_codec.dim()) +
                "; valid: the same of both");
  }
  return key_codec.dim() == 64 ? device::make_attention<64>(key_codec, value_codec, gpu)
                               : device::make_attention<128>(key_codec, value_codec, gpu);
}

void attend_half(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
                 DeviceView<const float> queries, const void* keys, const void* values,
                 DeviceView<float> outputs) {
  const auto run = [&]<int D>() {
    device::run<device::HalfSource<D>>(
        stream, workspace, size,
        {static_cast<const __half*>(keys), static_cast<const __half*>(values), size.capacity}, nullptr,
        nullptr, queries, outputs);
  };
  if (queries.cols == 64) return run.template operator()<64>();
  if (queries.cols == 128) return run.template operator()<128>();
  throw Error("attend: fp16 rows of " + std::to_string(queries.cols) + " coordinates; valid: 64 or 128");
}

}  // namespace rotorquant
