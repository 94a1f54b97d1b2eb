#include "rotorquant/device/attention_run.cuh"
#include "rotorquant/device/calibrated_scores.cuh"
#include "rotorquant/device/scored_attention.cuh"
#include "rotorquant/quantizers/trellis_codec.hpp"

namespace rotorquant::device {
namespace {

// First all scores, then attention with them: each kernel has the registers it needs to itself, and scores
// are a tenth of the bytes of an fp16 cache.
template <int D, int bits>
class CalibratedAttention final : public PackedAttention {
 public:
  CalibratedAttention(std::span<const std::shared_ptr<const CalibratedCodec>> keys, const Rope& rope,
                      const TrellisCodec& values, int gpu)
      : gpu_(gpu),
        scores_(keys, rope, gpu),
        value_rotation_(values.rotation().program()),
        value_offset_(scale_octaves(values.format())),
        tables_(std::vector<HalfPairs<bits>>{make_half_pairs<bits>(values.format().code().codebook())}) {}

  void attend(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
              DeviceView<const float> queries, ConstCodes<Space::cuda> keys, ConstCodes<Space::cuda> values,
              DeviceView<float> outputs) const override {
    const CurrentDevice current(gpu_);
    check_attention_size("attend", size, queries, D);
    check_shape("attend: outputs", outputs.rows, outputs.cols, queries.rows, D);
    const auto queries_per_head = static_cast<int>(size.queries_per_head);
    const AttentionSplit split = ScoredAttention<D, bits>::split(size.heads, queries_per_head, size.tokens);
    const std::int64_t slots = size.heads * split.splits * queries_together;
    auto* const scores = static_cast<float*>(workspace.reserve(
        (queries.rows * size.capacity + slots * (D + 2)) * static_cast<std::int64_t>(sizeof(float))));
    scores_.score(stream, size, queries, keys, {scores, queries.rows, size.capacity});
    float* const scratch = scores + queries.rows * size.capacity;
    const AttentionPartials partials{scratch, reinterpret_cast<float2*>(scratch + slots * D)};
    const AttentionShape shape{size.heads,   queries_per_head,
                               size.tokens,  split.tokens_per_split,
                               split.splits, size.scale * std::numbers::log2e_v<float>};
    ScoredAttention<D, bits>::launch(
        stream, {values.arrays[0], value_offset_, tables_.data(), scores, size.capacity}, shape, partials);
    merge_splits(stream, partials, shape, D, 1.0F, &value_rotation_, outputs.data);
  }

 private:
  int gpu_;
  CalibratedScores scores_;
  RowRotation value_rotation_;
  float value_offset_;
  Buffer<HalfPairs<bits>> tables_;
};

}  // namespace
}  // namespace rotorquant::device

namespace rotorquant {

std::unique_ptr<PackedAttention> make_calibrated_attention(
    std::span<const std::shared_ptr<const CalibratedCodec>> keys, const Rope& rope,
    std::shared_ptr<const Quantizer> values, int gpu) {
  const device::CurrentDevice current(gpu);
  const auto* const codec = dynamic_cast<const TrellisCodec*>(values.get());
  if (keys.empty() || codec == nullptr || !device::has_trellis_pairs(codec->format()) ||
      keys[0]->dim() != codec->dim()) {
    throw Error(
        "attend: no CUDA attention with calibrated keys over these values; valid: trellis codes of memory 5, "
        "2 or 3 bits, 64 "
        "or 128 coordinates, as many as the keys have");
  }
  const auto make = [&]<int D>() -> std::unique_ptr<PackedAttention> {
    if (codec->format().bits() == 2)
      return std::make_unique<device::CalibratedAttention<D, 2>>(keys, rope, *codec, gpu);
    return std::make_unique<device::CalibratedAttention<D, 3>>(keys, rope, *codec, gpu);
  };
  return codec->dim() == 64 ? make.template operator()<64>() : make.template operator()<128>();
}

}  // namespace rotorquant
