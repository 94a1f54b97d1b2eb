#include "rotorquant/device/decoded_attention.cuh"
#include "rotorquant/device/packed_attention.hpp"
#include "rotorquant/device/plane_attention.cuh"
#include "rotorquant/device/trellis_attention.cuh"
#include "rotorquant/quantizers/prod_codec.hpp"

namespace rotorquant::device {
namespace {

// A scalar codec of 64 or 128 coordinates that `most` bits or fewer, and `least` or more, can be read from.
const ScalarCodec* plane_codec(const Quantizer& quantizer, int least, int most) {
  const auto* const codec = dynamic_cast<const ScalarCodec*>(&quantizer);
  if (codec == nullptr || !has_plane_scores(*codec) || codec->codebook().bits() < least ||
      codec->codebook().bits() > most)
    return nullptr;
  return codec;
}

// Nothing where the pair has no kernel of its own.
std::unique_ptr<PackedAttention> make_scalar_attention(const Quantizer& keys, const Quantizer& values,
                                                       int gpu) {
  const ScalarCodec* const value_codec = plane_codec(values, 2, 4);
  if (value_codec == nullptr || keys.dim() != values.dim()) return nullptr;
  const bool narrow = values.dim() == 64;
  if (const auto* const two_stages = dynamic_cast<const ProdCodec*>(&keys)) {
    const ScalarCodec* const codec = plane_codec(two_stages->stage1(), 1, 3);
    const QjlSketch& sketch = two_stages->sketch();
    if (codec == nullptr || sketch.sketch_dim() != keys.dim()) return nullptr;
    return narrow ? make_sketched_attention<64>(*codec, sketch, *value_codec, gpu)
                  : make_sketched_attention<128>(*codec, sketch, *value_codec, gpu);
  }
  const ScalarCodec* const codec = plane_codec(keys, 2, 4);
  if (codec == nullptr) return nullptr;
  return narrow ? make_plane_attention<64>(*codec, *value_codec, gpu)
                : make_plane_attention<128>(*codec, *value_codec, gpu);
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
