#include "rotorquant/device/calibrated_quantizer.cuh"
#include "rotorquant/device/prod_quantizer.cuh"
#include "rotorquant/device/scalar_quantizer.cuh"
#include "rotorquant/device/shapes.cuh"
#include "rotorquant/device/trellis_quantizer.cuh"

namespace rotorquant::device {
ScalarQuantizer::ScalarQuantizer(std::shared_ptr<const Quantizer> owner, const ScalarCodec& codec, int gpu)
    : owner_(std::move(owner)),
      codec_(codec),
      gpu_(gpu),
      rotation_(codec.rotation().program()),
      query_rotation_(codec.rotation().program()),
      centroids_(codec.codebook().centroids),
      boundaries_(codec.codebook().boundaries),
      band_(make_band_encoder(codec)),
      fast_(TensorCodec::of(codec)) {
  if (has_plane_scores(codec)) score_centroids_ = integer_centroids(codec.codebook());
}

ScalarView ScalarQuantizer::view() const {
  return {rotation_.view(),         centroids_.data(),  boundaries_.data(),
          codec_.codebook().bits(), codec_.norm_type(), codec_.scale_rule()};
}

void ScalarQuantizer::encode(DeviceStream stream, const ConstDeviceTensor& x,
                             Codes<Space::cuda> codes) const {
  check_shape("encode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  if (band_ && x.type != ElementType::float32) {
    band_->encode(stream, x.data, x.type, x.rows, codes.arrays[0], codes.arrays[1], refusals_.data());
  } else if (fast_ && fast_->encodes(x.type)) {
    fast_->encode(stream, x.data, x.type, x.rows, codes.arrays[0], codes.arrays[1], refusals_.data());
  } else {
    encode_rows(stream, view(), x, codes.arrays[0], codes.arrays[1], refusals_.data());
  }
}

void ScalarQuantizer::decode(DeviceStream stream, ConstCodes<Space::cuda> codes,
                             const DeviceTensor& x) const {
  check_shape("decode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  if (fast_ && fast_->decodes(x.type)) {
    fast_->decode(stream, codes.arrays[0], codes.arrays[1], x.rows, x.data, x.type);
  } else {
    decode_rows(stream, view(), codes.arrays[0], codes.arrays[1], x);
  }
}

void ScalarQuantizer::score(DeviceStream stream, DeviceWorkspace& workspace, DeviceView<const float> queries,
                            ConstCodes<Space::cuda> codes, DeviceView<float> scores) const {
  check_shape("score: queries", queries.rows, queries.cols, queries.rows, dim());
  check_shape("score: scores", scores.rows, scores.cols, queries.rows, codes.count);
  const CurrentDevice current(gpu_);
  const std::int64_t rotated_dim = codec_.rotation().output_dim();
  auto* const rotated = static_cast<float*>(
      workspace.reserve(queries.rows * rotated_dim * static_cast<std::int64_t>(sizeof(float))));
  if (score_centroids_) {
    score_sketched(stream, queries, rotated, codes, {}, scores);
  } else {
    query_rotation_.apply(stream, queries.data, queries.rows, rotated);
    score_rows(stream, view(), rotated, queries.rows, codes.arrays[0], codes.arrays[1], codes.count,
               scores.data);
  }
}

void ScalarQuantizer::score_sketched(DeviceStream stream, DeviceView<const float> queries, float* rotated,
                                     const ConstCodes<Space::cuda>& codes, const SketchScores& sketch,
                                     DeviceView<float> scores) const {
  const CurrentDevice current(gpu_);
  query_rotation_.apply(stream, queries.data, queries.rows, rotated);
  score_planes(stream, static_cast<int>(dim()), codec_.codebook().bits(), *score_centroids_, rotated,
               queries.rows, codes.arrays[0], codes.arrays[1], codes.count, sketch, scores.data);
}

}  // namespace rotorquant::device

namespace rotorquant {

DeviceWorkspace::~DeviceWorkspace() {
  cudaFree(data_);
}

void* DeviceWorkspace::reserve(std::int64_t bytes) {
  if (bytes > bytes_) {
    cudaFree(data_);
    data_ = nullptr;
    bytes_ = 0;
    device::check(cudaMalloc(&data_, static_cast<std::size_t>(bytes)), "scratch memory of the device");
    bytes_ = bytes;
  }
  return data_;
}

std::unique_ptr<DeviceQuantizer> make_device_quantizer(std::shared_ptr<const Quantizer> quantizer, int gpu) {
  if (const auto reason = quantizer->unsupported_on(Space::cuda)) throw Error("GPU: " + *reason);
  const device::CurrentDevice current(gpu);
  int major = 0;
  device::check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu), "look-up of the GPU");
  if (major < 9) {
    throw Error("GPU " + std::to_string(gpu) + " has compute capability " + std::to_string(major) +
                ".x; valid: 9.0 or later");
  }
  if (const auto* scalar = dynamic_cast<const ScalarCodec*>(quantizer.get())) {
    return std::make_unique<device::ScalarQuantizer>(quantizer, *scalar, gpu);
  }
  if (const auto* two_stages = dynamic_cast<const ProdCodec*>(quantizer.get())) {
    return std::make_unique<device::ProdQuantizer>(quantizer, *two_stages, gpu);
  }
  if (const auto* trellis = dynamic_cast<const TrellisCodec*>(quantizer.get())) {
    return std::make_unique<device::TrellisQuantizer>(quantizer, *trellis, gpu);
  }
  if (const auto* calibrated = dynamic_cast<const CalibratedCodec*>(quantizer.get())) {
    return std::make_unique<device::CalibratedQuantizer>(quantizer, *calibrated, gpu);
  }
  throw Error("GPU: no CUDA kernels for this quantizer");
}

}  // namespace rotorquant
