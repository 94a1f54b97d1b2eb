#include "rotorquant/device/shapes.cuh"
#include "rotorquant/device/trellis_quantizer.cuh"
#include "rotorquant/device/trellis_rows.cuh"

namespace rotorquant::device {
TrellisQuantizer::TrellisQuantizer(std::shared_ptr<const Quantizer> owner, const TrellisCodec& codec, int gpu)
    : owner_(std::move(owner)),
      codec_(codec),
      gpu_(gpu),
      rotation_(codec.rotation().program()),
      query_rotation_(codec.rotation().program()),
      tables_(codec.format()),
      encoder_(tables_.view(), codec.rotation().program(), codec.format().scale_trials()),
      fast_decoder_(TrellisTensorDecoder::of(codec)) {
  if (has_trellis_scores(codec.format())) fast_scores_.emplace(codec.format());
}

void TrellisQuantizer::encode(DeviceStream stream, const ConstDeviceTensor& x,
                              Codes<Space::cuda> codes) const {
  check_shape("encode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  encoder_.encode(stream, x, codes.arrays[0], refusals_.data());
}

void TrellisQuantizer::decode(DeviceStream stream, ConstCodes<Space::cuda> codes,
                              const DeviceTensor& x) const {
  check_shape("decode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  if (fast_decoder_ && x.type != ElementType::float32) {
    fast_decoder_->decode(stream, codes.arrays[0], x.rows, x.data, x.type);
  } else {
    decode_trellis_rows(stream, tables_.view(), rotation_.view(), codes.arrays[0], x);
  }
}

void TrellisQuantizer::score(DeviceStream stream, DeviceWorkspace& workspace, DeviceView<const float> queries,
                             ConstCodes<Space::cuda> codes, DeviceView<float> scores) const {
  check_shape("score: queries", queries.rows, queries.cols, queries.rows, dim());
  check_shape("score: scores", scores.rows, scores.cols, queries.rows, codes.count);
  const CurrentDevice current(gpu_);
  auto* const rotated = static_cast<float*>(workspace.reserve(queries.rows * codec_.rotation().output_dim() *
                                                              static_cast<std::int64_t>(sizeof(float))));
  query_rotation_.apply(stream, queries.data, queries.rows, rotated);
  if (fast_scores_) {
    fast_scores_->score(stream, rotated, queries.rows, codes.arrays[0], codes.count, scores.data);
  } else {
    score_trellis_rows(stream, tables_.view(), rotated, queries.rows, codes.arrays[0], codes.count,
                       scores.data);
  }
}

}  // namespace rotorquant::device
