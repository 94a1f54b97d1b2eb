#pragma once
// The device form of scalar codecs: the fast path where there is one, else the general one.
#include <memory>
#include <optional>

#include "rotorquant/device/band_encoder.cuh"
#include "rotorquant/device/hopper/tensor_codec.cuh"
#include "rotorquant/device/plane_scores.cuh"
#include "rotorquant/device/rotate_rows.cuh"
#include "rotorquant/device/scalar_rows.cuh"

namespace rotorquant::device {

class ScalarQuantizer final : public DeviceQuantizer {
 public:
  ScalarQuantizer(std::shared_ptr<const Quantizer> owner, const ScalarCodec& codec, int gpu);

  const CodeLayout& layout() const override { return codec_.layout(); }
  void encode(DeviceStream stream, const ConstDeviceTensor& x, Codes<Space::cuda> codes) const override;
  void decode(DeviceStream stream, ConstCodes<Space::cuda> codes, const DeviceTensor& x) const override;
  void score(DeviceStream stream, DeviceWorkspace& workspace, DeviceView<const float> queries,
             ConstCodes<Space::cuda> codes, DeviceView<float> scores) const override;
  void finish(DeviceStream stream) const override { refusals_.finish(stream); }

  // Whether score_sketched applies: scores by tensor cores.
  bool scores_planes() const { return score_centroids_.has_value(); }
  // As score, with what a sketch adds; `rotated` is scratch memory for the rotated queries.
  void score_sketched(DeviceStream stream, DeviceView<const float> queries, float* rotated,
                      const ConstCodes<Space::cuda>& codes, const SketchScores& sketch,
                      DeviceView<float> scores) const;

  ScalarView view() const;
  unsigned long long* refusals() const { return refusals_.data(); }

 private:
  std::shared_ptr<const Quantizer> owner_;  // keeps codec_ alive
  const ScalarCodec& codec_;
  int gpu_;
  DeviceRotation rotation_;
  RowRotation query_rotation_;
  Buffer<float> centroids_, boundaries_;
  RefusalWord refusals_;
  std::unique_ptr<BandEncoder> band_;                // or nullptr
  std::unique_ptr<TensorCodec> fast_;                // or nullptr
  std::optional<IntegerCentroids> score_centroids_;  // where tensor cores can score
};

}  // namespace rotorquant::device
