#include "rotorquant/device/plane_scores.cuh"
#include "rotorquant/device/prod_quantizer.cuh"
#include "rotorquant/device/shapes.cuh"

namespace rotorquant::device {

ProdQuantizer::ProdQuantizer(std::shared_ptr<const Quantizer> owner, const ProdCodec& codec, int gpu)
    : codec_(codec),
      gpu_(gpu),
      stage1_(std::move(owner), codec.stage1(), gpu),
      sketch_(codec.sketch()),
      fast_(SketchCodec::of(codec)) {}

template <typename Byte, typename View>
TwoStageArrays<Byte> ProdQuantizer::arrays_of(const View& codes) const {
  const bool has_norms = codec_.sign_array() == 2;
  return {codes.arrays[0], has_norms ? codes.arrays[1] : nullptr, codes.arrays[codec_.sign_array()],
          codes.arrays[codec_.residual_array()]};
}

void ProdQuantizer::encode(DeviceStream stream, const ConstDeviceTensor& x, Codes<Space::cuda> codes) const {
  check_shape("encode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  const auto arrays = arrays_of<std::uint8_t>(codes);
  if (fast_ && fast_->encodes(x.type)) {
    fast_->encode(stream, x.data, x.type, x.rows, arrays, stage1_.refusals());
  } else {
    stage1_.encode(stream, x, codes);
    encode_residuals(stream, stage1_.view(), sketch_.view(), x, arrays, stage1_.refusals());
  }
}

void ProdQuantizer::decode(DeviceStream stream, ConstCodes<Space::cuda> codes, const DeviceTensor& x) const {
  check_shape("decode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  const auto arrays = arrays_of<const std::uint8_t>(codes);
  if (fast_ && fast_->decodes(x.type)) {
    fast_->decode(stream, arrays, x.rows, x.data, x.type);
  } else {
    decode_two_stages(stream, stage1_.view(), sketch_.view(), arrays, x);
  }
}

void ProdQuantizer::score(DeviceStream stream, DeviceWorkspace& workspace, DeviceView<const float> queries,
                          ConstCodes<Space::cuda> codes, DeviceView<float> scores) const {
  const CurrentDevice current(gpu_);
  const SketchView sketch = sketch_.view();
  const auto arrays = arrays_of<const std::uint8_t>(codes);
  const auto floats = [&](std::int64_t count) {
    return static_cast<float*>(workspace.reserve(count * static_cast<std::int64_t>(sizeof(float))));
  };
  if (stage1_.scores_planes() && sketch.sketch_dim == dim()) {
    check_shape("score: queries", queries.rows, queries.cols, queries.rows, dim());
    check_shape("score: scores", scores.rows, scores.cols, queries.rows, codes.count);
    float* const rotated = floats(2 * queries.size());
    float* const sketched = rotated + queries.size();
    sketch_queries(stream, sketch, queries.data, queries.rows, sketched);
    stage1_.score_sketched(
        stream, queries, rotated, codes,
        {sketched, sketch.factor, arrays.signs, reinterpret_cast<const __half*>(arrays.residual_norms)},
        scores);
    return;
  }
  stage1_.score(stream, workspace, queries, codes, scores);
  float* const sketched = floats(queries.rows * sketch.sketch_dim);
  sketch_queries(stream, sketch, queries.data, queries.rows, sketched);
  add_sketch_scores(stream, codec_.stage1().norm_type(), sketch, sketched, queries.rows, arrays.signs,
                    arrays.residual_norms, codes.count, scores.data);
}

}  // namespace rotorquant::device
