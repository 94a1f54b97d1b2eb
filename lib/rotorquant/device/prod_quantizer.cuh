#pragma once
// The device form of two-stage codecs: the first stage as scalar codecs have it, and the sketch of what that
// leaves. Encode and decode run both in one kernel where there is a fast path.
#include <memory>
#include <optional>

#include "rotorquant/device/hopper/sketch_codec.cuh"
#include "rotorquant/device/scalar_quantizer.cuh"
#include "rotorquant/device/sketch_rows.cuh"
#include "rotorquant/quantizers/prod_codec.hpp"

namespace rotorquant::device {

class ProdQuantizer final : public DeviceQuantizer {
 public:
  ProdQuantizer(std::shared_ptr<const Quantizer> owner, const ProdCodec& codec, int gpu);

  const CodeLayout& layout() const override { return codec_.layout(); }
  void encode(DeviceStream stream, const ConstDeviceTensor& x, Codes<Space::cuda> codes) const override;
  void decode(DeviceStream stream, ConstCodes<Space::cuda> codes, const DeviceTensor& x) const override;
  void score(DeviceStream stream, DeviceWorkspace& workspace, DeviceView<const float> queries,
             ConstCodes<Space::cuda> codes, DeviceView<float> scores) const override;
  void finish(DeviceStream stream) const override { stage1_.finish(stream); }

 private:
  template <typename Byte, typename View>
  TwoStageArrays<Byte> arrays_of(const View& codes) const;

  const ProdCodec& codec_;
  int gpu_;
  ScalarQuantizer stage1_;  // keeps codec_ alive
  DeviceSketch sketch_;
  std::unique_ptr<SketchCodec> fast_;  // or nullptr
};

}  // namespace rotorquant::device
