#pragma once
// The fast decoder of trellis codes: that of tensor_codec.cuh with left operands looked up by pairs of
// neighbouring coordinates (trellis_fragments.cuh), for any rotation.
//
// For GPUs of compute capability 9.0, fp16 and bf16 rows, memory 5, 2 and 3 bits, dims 64 and 128. Everything
// else takes the general path (trellis_rows.cuh).
#include <memory>

#include "rotorquant/core/element_type.hpp"
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/quantizers/trellis_codec.hpp"

namespace rotorquant::device {

class TrellisTensorDecoder {
 public:
  // nullptr where this path does not apply, or on another GPU than it is for. Runs on the GPU that is
  // current.
  static std::unique_ptr<TrellisTensorDecoder> of(const TrellisCodec& codec);

  // type: float16 or bfloat16. x [n, dim], 16-byte aligned like the codes.
  void decode(cudaStream_t stream, const std::uint8_t* codes, std::int64_t n, void* x,
              ElementType type) const;

 private:
  TrellisTensorDecoder() = default;

  int dim_ = 0, bits_ = 0, processors_ = 0;
  float offset_ = 0.0F;  // octaves of the scales
  Buffer<std::uint8_t> matrix_, tables_;
};

}  // namespace rotorquant::device
