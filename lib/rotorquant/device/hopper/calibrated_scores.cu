#include <algorithm>

#include "rotorquant/device/attention_run.cuh"
#include "rotorquant/device/calibrated_scores.cuh"
#include "rotorquant/device/hopper/calibrated_score_kernel.cuh"
#include "rotorquant/device/hopper/scalar_keys.cuh"
#include "rotorquant/device/hopper/tensor_operand.cuh"
#include "rotorquant/device/hopper/trellis_keys.cuh"
#include "rotorquant/device/launch.cuh"

namespace rotorquant::device {
namespace {

// Octaves on each side of the middle that scales, in fp16, may span.
constexpr int scale_octaves_aside = 13;

bool has_scores(const CalibratedCodec& codec) {
  const ScaleCode& scale = codec.parameters().scale;
  const CalibratedTrellis* const trellis = codec.trellis();
  return (codec.dim() == 64 || codec.dim() == 128) && codec.parameters().bits <= 4 &&
         (1 << scale.bits) <= 2 * scale_octaves_aside * scale.steps_per_octave &&
         (trellis == nullptr ||
          (trellis->code().memory() == 5 && codec.planes().count_at_least(1) >= register_bits));
}

HeadBytes image_of(const CalibratedCodec& codec, std::span<const int> order, int centroids) {
  if (codec.trellis() != nullptr) {
    return codec.dim() == 64 ? trellis_head_image<64>(codec, order, centroids)
                             : trellis_head_image<128>(codec, order, centroids);
  }
  return codec.dim() == 64 ? scalar_head_image<64>(codec, order, centroids)
                           : scalar_head_image<128>(codec, order, centroids);
}

int most_shared_bytes() {
  int gpu = 0, bytes = 0;
  check(cudaGetDevice(&gpu), "choice of a GPU");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, gpu), "look-up of the GPU");
  return bytes;
}

}  // namespace

CalibratedScores::CalibratedScores(std::span<const std::shared_ptr<const CalibratedCodec>> codecs,
                                   const Rope& rope, int gpu)
    : gpu_(gpu), count_(static_cast<int>(codecs.size())) {
  if (codecs.empty()) throw Error("calibrated keys on a GPU: no codec; valid: one or more");
  if (!is_this_architecture()) {
    throw Error("calibrated keys on a GPU: no kernels for this GPU; valid: compute capability 9.0");
  }
  dim_ = static_cast<int>(codecs[0]->dim());
  code_bytes_ = static_cast<int>(codecs[0]->layout().arrays[0].bytes_per_vector());
  trellis_ = codecs[0]->trellis() != nullptr;
  for (const auto& codec : codecs) {
    if (!has_scores(*codec) || codec->dim() != dim_ || (codec->trellis() != nullptr) != trellis_ ||
        codec->layout().arrays[0].bytes_per_vector() != code_bytes_) {
      throw Error(
          "calibrated keys on a GPU: no kernels for these; valid: at most 4 bits and 64 or 128 coordinates, "
          "scalar levels or trellis codes of memory 5, the same of all heads");
    }
    centroids_ = std::max(centroids_, static_cast<int>(codec->parameters().num_centroids()));
    const MixedPlanes& planes = codec->planes();
    decoder_size_ = std::max(
        decoder_size_, static_cast<int>(trellis_ ? planes.bits() - planes.count_at_least(1)
                                                 : (planes.count_at_least(widest_paired + 1) + 15) / 16));
  }
  if (rope.rotary_dim() > dim_) {
    throw Error("calibrated keys on a GPU: a rotary embedding of " + std::to_string(rope.rotary_dim()) +
                " coordinates; valid: at most " + std::to_string(dim_));
  }
  std::vector<int> order;
  std::vector<double> turns;
  order_coordinates(rope, dim_, order, turns);
  std::vector<HeadBytes> of_codecs;
  for (const auto& codec : codecs) {
    of_codecs.push_back(image_of(*codec, order, centroids_));
    image_bytes_ = std::max(image_bytes_, static_cast<int>(of_codecs.back().bytes.size()));
    shared_image_bytes_ = std::max(shared_image_bytes_, of_codecs.back().shared);
  }
  std::vector<std::uint8_t> images;
  for (HeadBytes& image : of_codecs) {
    image.bytes.resize(static_cast<std::size_t>(image_bytes_));
    images.insert(images.end(), image.bytes.begin(), image.bytes.end());
  }
  images_ = Buffer<std::uint8_t>(images);
  order_ = Buffer<int>(order);
  turns_ = Buffer<double>(turns);
}

template <int D, template <int> typename Decoder>
void CalibratedScores::launch(cudaStream_t stream, const AttentionSize& size, const float* queries,
                              const std::uint8_t* codes, float* scores) const {
  using Memory = ScoreMemory<D>;
  const int warp_bytes = 2 * Memory::staging(code_bytes_) + Decoder<D>::warp_bytes(decoder_size_);
  const auto bytes_of = [&](int warpgroups) {
    return Memory::total(shared_image_bytes_, Decoder<D>::block_bytes, warp_bytes, warpgroups);
  };
  int warpgroups = Memory::most_warpgroups;
  const int available = most_shared_bytes();
  while (warpgroups > 1 && bytes_of(warpgroups) > available) --warpgroups;
  const auto bytes = static_cast<std::size_t>(bytes_of(warpgroups));
  const auto kernel = calibrated_score_kernel<D, Decoder>;
  const int threads = warpgroups * warpgroup_threads;
  const std::int64_t resident = resident_blocks("scores of calibrated keys", kernel, threads, bytes);
  const std::int64_t step = std::int64_t{warpgroups} * warpgroup_keys;
  const std::int64_t steps = (size.tokens + step - 1) / step;
  const std::int64_t splits = std::min(steps, std::max<std::int64_t>(1, resident / size.heads));
  const std::int64_t tokens_per_block = (steps + splits - 1) / splits * step;
  const dim3 grid(static_cast<unsigned>((size.tokens + tokens_per_block - 1) / tokens_per_block),
                  static_cast<unsigned>(size.heads));
  const CalibratedScoreArguments arguments{
      {queries, static_cast<int>(size.queries_per_head), order_.data(), turns_.data()},
      images_.data(),
      image_bytes_,
      shared_image_bytes_,
      count_,
      centroids_,
      codes,
      code_bytes_,
      warp_bytes,
      size.tokens,
      size.capacity,
      tokens_per_block,
      scores};
  kernel<<<grid, static_cast<unsigned>(threads), bytes, stream>>>(arguments);
  check_launch("scores of calibrated keys");
}

void CalibratedScores::score(DeviceStream stream, const AttentionSize& size, DeviceView<const float> queries,
                             ConstCodes<Space::cuda> keys, DeviceView<float> scores) const {
  const CurrentDevice current(gpu_);
  check_attention_size("score", size, queries, dim_);
  check_shape("score: scores", scores.rows, scores.cols, queries.rows, size.capacity);
  const std::uint8_t* const codes = keys.arrays[0];
  if (trellis_) {
    return dim_ == 64 ? launch<64, TrellisKeys>(stream, size, queries.data, codes, scores.data)
                      : launch<128, TrellisKeys>(stream, size, queries.data, codes, scores.data);
  }
  return dim_ == 64 ? launch<64, ScalarKeys>(stream, size, queries.data, codes, scores.data)
                    : launch<128, ScalarKeys>(stream, size, queries.data, codes, scores.data);
}

}  // namespace rotorquant::device

namespace rotorquant {

std::unique_ptr<KeyScores> make_calibrated_scores(
    std::span<const std::shared_ptr<const CalibratedCodec>> keys, const Rope& rope, int gpu) {
  const device::CurrentDevice current(gpu);
  return std::make_unique<device::CalibratedScores>(keys, rope, gpu);
}

}  // namespace rotorquant
