#include "rotorquant/device/attention_run.cuh"
#include "rotorquant/device/trellis_attention.cuh"
#include "rotorquant/quantizers/trellis_codec.hpp"

namespace rotorquant::device {

namespace {

template <int D, int bits>
class TrellisAttention final : public PackedAttention {
 public:
  TrellisAttention(const TrellisCodec& keys, const TrellisCodec& values, int gpu)
      : gpu_(gpu),
        key_rotation_(keys.rotation().program()),
        value_rotation_(values.rotation().program()),
        offsets_{scale_octaves(keys.format()), scale_octaves(values.format())},
        tables_(std::vector<HalfPairs<bits>>{make_half_pairs<bits>(keys.format().code().codebook())}) {}

  void attend(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
              DeviceView<const float> queries, ConstCodes<Space::cuda> keys, ConstCodes<Space::cuda> values,
              DeviceView<float> outputs) const override {
    const CurrentDevice current(gpu_);
    const typename TrellisSource<D, bits>::Parameters parameters{
        {keys.arrays[0], values.arrays[0]}, {offsets_[0], offsets_[1]}, tables_.data(), size.capacity};
    run_attention<TrellisSource<D, bits>>(stream, workspace, size, parameters, &key_rotation_,
                                          &value_rotation_, queries, outputs);
  }

 private:
  int gpu_;
  RowRotation key_rotation_, value_rotation_;
  float offsets_[2];
  Buffer<HalfPairs<bits>> tables_;
};

template <int D>
std::unique_ptr<PackedAttention> make_of_dim(const TrellisCodec& keys, const TrellisCodec& values, int gpu) {
  if (keys.format().bits() == 2) return std::make_unique<TrellisAttention<D, 2>>(keys, values, gpu);
  return std::make_unique<TrellisAttention<D, 3>>(keys, values, gpu);
}

}  // namespace

std::unique_ptr<PackedAttention> make_trellis_attention(const Quantizer& keys, const Quantizer& values,
                                                        int gpu) {
  const auto* const key_codec = dynamic_cast<const TrellisCodec*>(&keys);
  const auto* const value_codec = dynamic_cast<const TrellisCodec*>(&values);
  if (key_codec == nullptr || value_codec == nullptr || !has_trellis_pairs(key_codec->format()) ||
      !has_trellis_pairs(value_codec->format()) || keys.dim() != values.dim() ||
      key_codec->format().bits() != value_codec->format().bits()) {
    return nullptr;
  }
  return keys.dim() == 64 ? make_of_dim<64>(*key_codec, *value_codec, gpu)
                          : make_of_dim<128>(*key_codec, *value_codec, gpu);
}

}  // namespace rotorquant::device
