#pragma once
// The device form of trellis codecs: the fast path where there is one, else the general one.
#include <memory>
#include <optional>

#include "rotorquant/device/hopper/trellis_decoder.cuh"
#include "rotorquant/device/refusals.cuh"
#include "rotorquant/device/rotate_rows.cuh"
#include "rotorquant/device/trellis_encode.cuh"
#include "rotorquant/device/trellis_scores.cuh"

namespace rotorquant::device {

class TrellisQuantizer final : public DeviceQuantizer {
 public:
  TrellisQuantizer(std::shared_ptr<const Quantizer> owner, const TrellisCodec& codec, int gpu);

  const CodeLayout& layout() const override { return codec_.layout(); }
  void encode(DeviceStream stream, const ConstDeviceTensor& x, Codes<Space::cuda> codes) const override;
  void decode(DeviceStream stream, ConstCodes<Space::cuda> codes, const DeviceTensor& x) const override;
  void score(DeviceStream stream, DeviceWorkspace& workspace, DeviceView<const float> queries,
             ConstCodes<Space::cuda> codes, DeviceView<float> scores) const override;
  void finish(DeviceStream stream) const override { refusals_.finish(stream); }

 private:
  std::shared_ptr<const Quantizer> owner_;  // keeps codec_ alive
  const TrellisCodec& codec_;
  int gpu_;
  DeviceRotation rotation_;
  RowRotation query_rotation_;
  TrellisTables tables_;
  TrellisEncoder encoder_;
  std::unique_ptr<TrellisTensorDecoder> fast_decoder_;  // or nullptr
  std::optional<TrellisScores> fast_scores_;            // where tensor cores can score
  RefusalWord refusals_;
};

}  // namespace rotorquant::device
