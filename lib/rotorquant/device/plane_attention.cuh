#pragma once
// Attention over keys and values in bit planes, as packed_attention.hpp has it. Each file of kernels makes
// those of one dim and of plain or two-stage keys: they take long to compile.
#include "rotorquant/device/attention_run.cuh"
#include "rotorquant/device/packed_attention.hpp"
#include "rotorquant/device/plane_scores.cuh"
#include "rotorquant/device/sketch_rows.cuh"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::device {

// Widths of keys that attention takes: of plain codes, and of the first stage of two-stage ones.
inline constexpr int plain_key_bits[] = {2, 3, 4};
inline constexpr int stage_key_bits[] = {1, 2, 3};

// `keys`: plain codes, or the first stage of two-stage codes with this sketch. Widths as above.
template <int D>
std::unique_ptr<PackedAttention> make_plane_attention(const ScalarCodec& keys, const ScalarCodec& values,
                                                      int gpu);
template <int D>
std::unique_ptr<PackedAttention> make_sketched_attention(const ScalarCodec& keys, const QjlSketch& sketch,
                                                         const ScalarCodec& values, int gpu);

// What kernels need of keys (their first stage) and values.
struct PlaneCodecs {
  PlaneCodecs(const ScalarCodec& keys, const ScalarCodec& values)
      : key_rotation(keys.rotation().program()),
        value_rotation(values.rotation().program()),
        key_centroids(half_centroids(keys.codebook())),
        value_centroids(half_centroids(values.codebook())) {}

  // What every plane source's parameters begin with.
  template <int D, int key_bits, int value_bits>
  typename PlaneSource<D, key_bits, value_bits>::Parameters parameters_of(
      const AttentionSize& size, const ConstCodes<Space::cuda>& keys,
      const ConstCodes<Space::cuda>& values) const {
    return {{keys.arrays[0], reinterpret_cast<const __half*>(keys.arrays[1]), key_centroids},
            {values.arrays[0], reinterpret_cast<const __half*>(values.arrays[1]), value_centroids},
            size.capacity};
  }

  RowRotation key_rotation, value_rotation;
  HalfCentroids key_centroids, value_centroids;
};

template <int D, int key_bits, int value_bits>
class PlaneAttention final : public PackedAttention {
 public:
  PlaneAttention(const ScalarCodec& keys, const ScalarCodec& values, int gpu)
      : gpu_(gpu), codecs_(keys, values) {}

  void attend(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
              DeviceView<const float> queries, ConstCodes<Space::cuda> keys, ConstCodes<Space::cuda> values,
              DeviceView<float> outputs) const override {
    const CurrentDevice current(gpu_);
    run_attention<PlaneSource<D, key_bits, value_bits>>(
        stream, workspace, size, codecs_.parameters_of<D, key_bits, value_bits>(size, keys, values),
        &codecs_.key_rotation, &codecs_.value_rotation, queries, outputs);
  }

 private:
  int gpu_;
  PlaneCodecs codecs_;
};

// Codes: planes, norms, signs, norms of residuals.
template <int D, int key_bits, int value_bits>
class SketchedAttention final : public PackedAttention {
 public:
  using Source = SketchedSource<D, key_bits, value_bits>;

  SketchedAttention(const ScalarCodec& keys, const QjlSketch& sketch, const ScalarCodec& values, int gpu)
      : gpu_(gpu), codecs_(keys, values), sketch_(sketch) {}

  void attend(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
              DeviceView<const float> queries, ConstCodes<Space::cuda> keys, ConstCodes<Space::cuda> values,
              DeviceView<float> outputs) const override {
    const CurrentDevice current(gpu_);
    const SketchView sketch = sketch_.view();
    const typename Source::Parameters parameters{
        codecs_.parameters_of<D, key_bits, value_bits>(size, keys, values),
        {keys.arrays[2], reinterpret_cast<const __half*>(keys.arrays[3]), sign_centroids(sketch.factor)},
        nullptr};
    run_attention<Source>(stream, workspace, size, parameters, &codecs_.key_rotation, &codecs_.value_rotation,
                          queries, outputs, queries.size(),
                          [&](float* extra, typename Source::Parameters& prepared) {
                            sketch_queries(stream, sketch, queries.data, queries.rows, extra);
                            prepared.sketched_queries = extra;
                          });
  }

 private:
  int gpu_;
  PlaneCodecs codecs_;
  DeviceSketch sketch_;
};

// make(<key bits>, <value bits>) with the widths as constants.
template <const int (&key_widths)[3], typename Make>
std::unique_ptr<PackedAttention> dispatch_widths(int key_bits, int value_bits, const Make& make) {
  const auto with_keys = [&]<int keys>() {
    switch (value_bits) {
      case 2:
        return make.template operator()<keys, 2>();
      case 3:
        return make.template operator()<keys, 3>();
      default:
        return make.template operator()<keys, 4>();
    }
  };
  if (key_bits == key_widths[0]) return with_keys.template operator()<key_widths[0]>();
  if (key_bits == key_widths[1]) return with_keys.template operator()<key_widths[1]>();
  return with_keys.template operator()<key_widths[2]>();
}

template <int D>
std::unique_ptr<PackedAttention> make_plane_attention(const ScalarCodec& keys, const ScalarCodec& values,
                                                      int gpu) {
  return dispatch_widths<plain_key_bits>(
      keys.codebook().bits(), values.codebook().bits(),
      [&]<int key_bits, int value_bits>() -> std::unique_ptr<PackedAttention> {
        return std::make_unique<PlaneAttention<D, key_bits, value_bits>>(keys, values, gpu);
      });
}

template <int D>
std::unique_ptr<PackedAttention> make_sketched_attention(const ScalarCodec& keys, const QjlSketch& sketch,
                                                         const ScalarCodec& values, int gpu) {
  return dispatch_widths<stage_key_bits>(
      keys.codebook().bits(), values.codebook().bits(),
      [&]<int key_bits, int value_bits>() -> std::unique_ptr<PackedAttention> {
        return std::make_unique<SketchedAttention<D, key_bits, value_bits>>(keys, sketch, values, gpu);
      });
}

extern template std::unique_ptr<PackedAttention> make_plane_attention<64>(const ScalarCodec&,
                                                                          const ScalarCodec&, int);
extern template std::unique_ptr<PackedAttention> make_plane_attention<128>(const ScalarCodec&,
                                                                           const ScalarCodec&, int);
extern template std::unique_ptr<PackedAttention> make_sketched_attention<64>(const ScalarCodec&,
                                                                             const QjlSketch&,
                                                                             const ScalarCodec&, int);
extern template std::unique_ptr<PackedAttention> make_sketched_attention<128>(const ScalarCodec&,
                                                                              const QjlSketch&,
                                                                              const ScalarCodec&, int);

}  // namespace rotorquant::device
