#pragma once
// The fast path of rotors' encode at 2 and 3 bits: a thread holds a whole vector in registers and turns it block by block, for
// three fused operations a coordinate, where a product by the whole matrix (hopper/tensor_codec.cuh) takes more energy and
// shared memory. Every index is a compile-time constant and every coefficient an operand from the constant bank. A warp works on
// 32 rows; the next tile's rows are on their way while this one's are computed.
//
// For fp16 and bf16 rows of 80, 96 and 128 coordinates, a codebook symmetric about 0, the norm alone stored in fp16.
#include <memory>

#include "rotorquant/core/element_type.hpp"
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::device {

class RotorEncoder {
 public:
  virtual ~RotorEncoder() = default;
  // x [n, dim] of fp16 or bf16, 16-byte aligned like the codes.
  virtual void encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n,
                      std::uint8_t* codes, std::uint8_t* norms, unsigned long long* refusals) const = 0;
};

// nullptr where this path does not apply. Runs on the GPU that is current.
std::unique_ptr<RotorEncoder> make_rotor_encoder(const ScalarCodec& codec);

}  // namespace rotorquant::device
