#include <algorithm>

#include "rotorquant/device/attention_run.cuh"
#include "rotorquant/device/calibrated_scores.cuh"
#include "rotorquant/device/hopper/calibrated_score_kernel.cuh"
#include "rotorquant/device/hopper/tensor_operand.cuh"
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
  }
  if (rope.rotary_dim() > dim_) {
    throw Error("calibrated keys on a GPU: a rotary embedding of " + std::to_string(rope.rotary_dim()) +
                " coordinates; valid: at most " + std::to_string(dim_));
  }
  std::vector<int> order;
  std::vector<double> turns;
  order_coordinates(rope, dim_, order, turns);
  const HeadImages images = head_images(codecs, order);
  shape_ = images.shape;
  image_ = images.layout;
  images_ = Buffer<std::uint8_t>(images.bytes);
  const auto least = [&](auto memory) { return decltype(memory)::total(image_.bytes, code_bytes_, 1); };
  const int needed = dim_ == 64 ? least(ScoreMemory<64>{}) : least(ScoreMemory<128>{});
  if (needed > most_shared_bytes()) {
    throw Error("calibrated keys on a GPU: " + std::to_string(needed) + " bytes of tables; valid: at most " +
                std::to_string(most_shared_bytes()) + ": fewer centroids or bits");
  }
  order_ = Buffer<int>(order);
  turns_ = Buffer<double>(turns);
}

template <int D, int single_steps, KeyCode code>
void CalibratedScores::launch(cudaStream_t stream, const AttentionSize& size, const float* queries,
                              const std::uint8_t* codes, float* scores) const {
  using Memory = ScoreMemory<D>;
  const auto bytes_of = [&](int warpgroups) { return Memory::total(image_.bytes, code_bytes_, warpgroups); };
  int warpgroups = Memory::most_warpgroups;
  const int available = most_shared_bytes();
  while (warpgroups > 1 && bytes_of(warpgroups) > available) --warpgroups;
  const auto bytes = static_cast<std::size_t>(bytes_of(warpgroups));
  const auto kernel = calibrated_score_kernel<D, single_steps, code>;
  const int threads = warpgroups * warpgroup_threads;
  const std::int64_t resident = resident_blocks("scores of calibrated keys", kernel, threads, bytes);
  const std::int64_t of_round = std::int64_t{warpgroups} * warpgroup_keys;
  const std::int64_t rounds = (size.tokens + of_round - 1) / of_round;
  const auto blocks = static_cast<unsigned>(std::min(resident, size.heads * rounds));
  const CalibratedScoreArguments arguments{
      {queries, static_cast<int>(size.queries_per_head), order_.data(), turns_.data()},
      images_.data(),
      image_,
      count_,
      centroids_,
      codes,
      code_bytes_,
      size.heads,
      size.tokens,
      size.capacity,
      rounds,
      scores};
  kernel<<<blocks, static_cast<unsigned>(threads), bytes, stream>>>(arguments);
  check_launch("scores of calibrated keys");
}

void CalibratedScores::score(DeviceStream stream, const AttentionSize& size, DeviceView<const float> queries,
                             ConstCodes<Space::cuda> keys, DeviceView<float> scores) const {
  const CurrentDevice current(gpu_);
  check_attention_size("score", size, queries, dim_);
  check_shape("score: scores", scores.rows, scores.cols, queries.rows, size.capacity);
  const std::uint8_t* const codes = keys.arrays[0];
  const auto run_steps = [&]<int D, KeyCode code>() {
    if (shape_.single_steps == 0) return launch<D, 0, code>(stream, size, queries.data, codes, scores.data);
    if (shape_.single_steps == 2) return launch<D, 2, code>(stream, size, queries.data, codes, scores.data);
    return launch<D, D / 16, code>(stream, size, queries.data, codes, scores.data);
  };
  const auto run = [&]<int D>() {
    if (shape_.code == KeyCode::trellis) return run_steps.template operator()<D, KeyCode::trellis>();
    if (shape_.code == KeyCode::scalar) return run_steps.template operator()<D, KeyCode::scalar>();
    return run_steps.template operator()<D, KeyCode::scalar_twos>();
  };
  return dim_ == 64 ? run.template operator()<64>() : run.template operator()<128>();
}

}  // namespace rotorquant::device

namespace rotorquant {

std::unique_ptr<KeyScores> make_calibrated_scores(
    std::span<const std::shared_ptr<const CalibratedCodec>> keys, const Rope& rope, int gpu) {
  const device::CurrentDevice current(gpu);
  return std::make_unique<device::CalibratedScores>(keys, rope, gpu);
}

}  // namespace rotorquant
