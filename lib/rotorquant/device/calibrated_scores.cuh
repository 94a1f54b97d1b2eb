#pragma once
// Scores of calibrated keys (quantizers/calibrated.hpp) of one token's queries after RoPE:
//   score = q^T R_p (c + h + n B^T y^),   B = `backward`, R_p the rotation of position p.
//
// Keys are decoded to fp16 (key_indices.hpp), meet B on tensor cores, and are turned where the products are:
// as they would be in an uncompressed cache, fp16, they meet the queries on tensor cores again.
// hopper/calibrated_score_kernel.cuh says how.
#include <memory>
#include <span>

#include "rotorquant/cache/rope.hpp"
#include "rotorquant/device/calibrated_tables.cuh"
#include "rotorquant/device/packed_attention.hpp"
#include "rotorquant/device/runtime.cuh"

namespace rotorquant::device {

class CalibratedScores final : public KeyScores {
 public:
  // As make_calibrated_scores, on the current GPU.
  CalibratedScores(std::span<const std::shared_ptr<const CalibratedCodec>> codecs, const Rope& rope, int gpu);

  int dim() const { return dim_; }

  void score(DeviceStream stream, const AttentionSize& size, DeviceView<const float> queries,
             ConstCodes<Space::cuda> keys, DeviceView<float> scores) const override;

 private:
  template <int D, int single_steps, KeyCode code>
  void launch(cudaStream_t stream, const AttentionSize& size, const float* queries, const std::uint8_t* codes,
              float* scores) const;

  int gpu_;
  int dim_ = 0, code_bytes_ = 0;
  bool trellis_ = false;
  int count_;          // of codecs
  int centroids_ = 0;  // that an image has room for
  IndexShape shape_{};
  HeadImage image_{};
  Buffer<std::uint8_t> images_;
  Buffer<int> order_;
  Buffer<double> turns_;
};

}  // namespace rotorquant::device
