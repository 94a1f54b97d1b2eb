#include <algorithm>
#include <cmath>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/attention_run.cuh"
#include "rotorquant/device/decoded_attention.cuh"
#include "rotorquant/device/packed_attention.hpp"
#include "rotorquant/device/plane_scores.cuh"
#include "rotorquant/device/trellis_attention.cuh"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::device {
namespace {

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
    run_attention<PlaneSource<D, bits>>(stream, workspace, size, parameters, &key_rotation_, &value_rotation_,
                                        queries, outputs);
  }

 private:
  int gpu_;
  RowRotation key_rotation_, value_rotation_;
  HalfCentroids key_centroids_, value_centroids_;
};

template <int D>
std::unique_ptr<PackedAttention> make_of_dim(const ScalarCodec& keys, const ScalarCodec& values, int gpu) {
  switch (keys.codebook().bits()) {
    case 2:
      return std::make_unique<Attention<D, 2>>(keys, values, gpu);
    case 3:
      return std::make_unique<Attention<D, 3>>(keys, values, gpu);
    default:
      return std::make_unique<Attention<D, 4>>(keys, values, gpu);
  }
}

// Nothing where the pair has no kernel of its own.
std::unique_ptr<PackedAttention> make_scalar_attention(const Quantizer& keys, const Quantizer& values,
                                                       int gpu) {
  const auto* const key_codec = dynamic_cast<const ScalarCodec*>(&keys);
  const auto* const value_codec = dynamic_cast<const ScalarCodec*>(&values);
  if (key_codec == nullptr || value_codec == nullptr || !has_plane_scores(*key_codec) ||
      !has_plane_scores(*value_codec) || keys.dim() != values.dim() ||
      key_codec->codebook().bits() != value_codec->codebook().bits()) {
    return nullptr;
  }
  return keys.dim() == 64 ? make_of_dim<64>(*key_codec, *value_codec, gpu)
                          : make_of_dim<128>(*key_codec, *value_codec, gpu);
}

}  // namespace
}  // namespace rotorquant::device

namespace rotorquant {

std::unique_ptr<PackedAttention> make_packed_attention(std::shared_ptr<const Quantizer> keys,
                                                       std::shared_ptr<const Quantizer> values, int gpu) {
  const device::CurrentDevice current(gpu);
  if (auto made = device::make_trellis_attention(*keys, *values, gpu)) return made;
  if (auto made = device::make_scalar_attention(*keys, *values, gpu)) return made;
  return device::make_decoded_attention(std::move(keys), std::move(values), gpu);
}

void attend_half(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
                 DeviceView<const float> queries, const void* keys, const void* values,
                 DeviceView<float> outputs) {
  const auto run = [&]<int D>() {
    device::run_attention<device::HalfSource<D>>(
        stream, workspace, size,
        {static_cast<const __half*>(keys), static_cast<const __half*>(values), size.capacity}, nullptr,
        nullptr, queries, outputs);
  };
  if (queries.cols == 64) return run.template operator()<64>();
  if (queries.cols == 128) return run.template operator()<128>();
  throw Error("attend: fp16 rows of " + std::to_string(queries.cols) + " coordinates; valid: 64 or 128");
}

}  // namespace rotorquant
