#pragma once
// The encoder of trellis codes: the CPU's codes (TrellisCodec::encode_block), bit for bit.
//
// A warp takes a batch of vectors. In the Viterbi passes its lanes are the states of the trellis and the
// vectors come in pairs, so that one's additions run while the other's shuffles are on their way; everything
// else (rotation, tracing paths back, fitting the scale) has a lane for each vector.
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/device/exact_rotation.cuh"
#include "rotorquant/device/trellis_tables.cuh"

namespace rotorquant::device {

struct TrellisEncode {
  TrellisView tables;
  ExactRotationView rotation;
  const void* x;
  ElementType type;
  std::int64_t n;
  std::uint8_t* codes;
  unsigned long long* refusals;
  int scale_trials;
};

class TrellisEncoder {
 public:
  TrellisEncoder(const TrellisView& tables, const RotationProgram& rotation, int scale_trials);

  // x [n, dim] -> codes [n, bytes_per_vector].
  void encode(cudaStream_t stream, const ConstDeviceTensor& x, std::uint8_t* codes,
              unsigned long long* refusals) const;

 private:
  TrellisView tables_;
  ExactRotation rotation_;
  int scale_trials_;
  int batch_, warps_;   // vectors a warp takes at a time, warps a block
  bool tables_shared_;  // in shared memory
  std::size_t shared_bytes_;
  int blocks_;  // that the GPU holds at a time
};

}  // namespace rotorquant::device
