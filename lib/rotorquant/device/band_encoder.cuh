#pragma once
// The fast path of encode at 2 and 3 bits for rotations that turn few neighbouring coordinates at a time
// (rotors, planes, quaternions; none): tensor cores multiply by the band of the matrix that is not empty, a
// fifth of the work of the whole one (hopper/tensor_codec.cuh). A warp takes 16 rows; the next ones are on
// their way while these are quantized.
//
// The matrix is the sum of 16-bit terms of the rows' own type, two of fp16 or three of bf16, so that products
// err by about 2^-22 of the norm.
//
// For fp16 and bf16 rows of 80, 96 and 128 coordinates, a codebook symmetric about 0, the norm alone stored
// in fp16.
#include <memory>

#include "rotorquant/core/element_type.hpp"
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::device {

class BandEncoder {
 public:
  virtual ~BandEncoder() = default;
  // x [n, dim] of fp16 or bf16, 16-byte aligned like the codes.
  virtual void encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n,
                      std::uint8_t* codes, std::uint8_t* norms, unsigned long long* refusals) const = 0;
};

// nullptr where this path does not apply. Runs on the GPU that is current.
std::unique_ptr<BandEncoder> make_band_encoder(const ScalarCodec& codec);

}  // namespace rotorquant::device
