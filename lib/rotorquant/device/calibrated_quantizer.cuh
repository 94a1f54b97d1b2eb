#pragma once
// The device form of calibrated codecs; scores are of keys before RoPE.
#include <memory>
#include <optional>

#include "rotorquant/device/calibrated_rows.cuh"
#include "rotorquant/device/calibrated_trellis_encode.cuh"
#include "rotorquant/device/refusals.cuh"
#include "rotorquant/device/runtime.cuh"

namespace rotorquant::device {

class CalibratedQuantizer final : public DeviceQuantizer {
 public:
  CalibratedQuantizer(std::shared_ptr<const Quantizer> owner, const CalibratedCodec& codec, int gpu);

  const CodeLayout& layout() const override { return codec_.layout(); }
  void encode(DeviceStream stream, const ConstDeviceTensor& x, Codes<Space::cuda> codes) const override;
  void decode(DeviceStream stream, ConstCodes<Space::cuda> codes, const DeviceTensor& x) const override;
  void score(DeviceStream stream, DeviceWorkspace& workspace, DeviceView<const float> queries,
             ConstCodes<Space::cuda> codes, DeviceView<float> scores) const override;
  void finish(DeviceStream stream) const override { refusals_.finish(stream); }

 private:
  CalibratedView view() const;
  CalibratedTrellisView trellis_view() const;

  std::shared_ptr<const Quantizer> owner_;  // keeps codec_ alive
  const CalibratedCodec& codec_;
  int gpu_;
  Buffer<ColumnStep> forward_, backward_;
  Buffer<int> input_slots_;
  Buffer<float> input_scales_;
  Buffer<LevelPlace> places_;
  Buffer<float> levels_, boundaries_;
  Buffer<float> shift_, centroids_, transformed_, offsets_, scales_, diagonal_, metric_;
  Buffer<double> energies_;
  std::optional<CalibratedTrellisTables> trellis_;
  std::optional<CalibratedTrellisEncoder> trellis_encoder_;
  RefusalWord refusals_;
};

}  // namespace rotorquant::device
