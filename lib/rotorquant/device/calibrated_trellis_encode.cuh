#pragma once
// The encoder of calibrated keys in trellis codes: the CPU's codes, bit for bit.
//
// A block takes 32 keys. Its first warp looks for their pairs of centroid and scale, a thread a key
// (calibrated_pairs.cuh); then every warp searches the trellis for one key after the other.
#include "rotorquant/device/calibrated_rows.cuh"
#include "rotorquant/device/calibrated_trellis_tables.cuh"

namespace rotorquant::device {

class CalibratedTrellisEncoder {
 public:
  // For the GPU that is current.
  CalibratedTrellisEncoder(const CalibratedView& codec, const CalibratedTrellisView& trellis);

  // x [n, dim] -> codes [n, code_bytes].
  void encode(cudaStream_t stream, const CalibratedView& codec, const CalibratedTrellisView& trellis,
              const ConstDeviceTensor& x, std::uint8_t* codes, unsigned long long* refusals) const;

 private:
  int warps_;  // a block
  std::size_t shared_bytes_;
};

}  // namespace rotorquant::device
