#pragma once
// The fast path of two-stage codecs (quantizers/prod_codec.hpp): tensor_codec.cuh's for the first stage, and
// in the same kernel the sketch of what that leaves. Every byte is read and written once.
//
//   encode  y = R x as there, both terms in fp16; e = y - s c[index] / |x| in registers becomes the left operand
//           of a second product, S R^T e, whose signs are those of S (x - x^). There each number is the sum of
//           an fp16 term and an e4m3 one, of which all products but the two small ones' are made, the mixed
//           ones in e4m3: sums err by about 2^-20 of the norms' product.
//   decode  s R^T c[index] + sqrt(pi/2)/m |r| S^T sign(S r), two products, S in one term.
//
// For GPUs of compute capability 9.0, fp16 and bf16 rows, dims up to 128 that are multiples of 8, as many
// signs, 1 to 4 bits in the first stage and norms in fp16. Everything else takes the general path
// (sketch_rows.cuh).
#include <memory>

#include "rotorquant/device/hopper/tensor_codec.cuh"
#include "rotorquant/device/sketch_rows.cuh"
#include "rotorquant/quantizers/prod_codec.hpp"

namespace rotorquant::device {

// The encoder's small terms of residuals are this times as large as they are, where e4m3 holds them.
inline constexpr float byte_rest_scale = 0x1p9F;

class SketchCodec {
 public:
  // nullptr where this path does not apply. Runs on the GPU that is current.
  static std::unique_ptr<SketchCodec> of(const ProdCodec& codec);

  bool encodes(ElementType type) const { return table_.has_value() && decodes(type); }
  bool decodes(ElementType type) const { return type != ElementType::float32; }
  // x [n, dim], 16-byte aligned like the codes.
  void encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n,
              const TwoStageArrays<std::uint8_t>& codes, unsigned long long* refusals) const;
  void decode(cudaStream_t stream, const TwoStageArrays<const std::uint8_t>& codes, std::int64_t n, void* x,
              ElementType type) const;

 private:
  SketchCodec() = default;
  template <typename Body>
  void dispatch(const Body& body) const;

  int dim_ = 0, bits_ = 0;
  float factor_ = 0.0F;
  std::optional<SearchTable> table_;
  std::optional<MagnitudeCurve> curve_;
  HalfCentroids centroids_{};
  std::vector<float> levels_;
  // Of -R and S R^T; of R^T and S^T.
  Buffer<std::uint8_t> rotation_, projection_, rotation_back_, projection_back_;
  Buffer<std::uint8_t> byte_projection_;  // S R^T in e4m3 alone, over byte_rest_scale
  int processors_ = 0;
};

// Arguments of the kernels; see SketchCodec.
struct SketchEncode {
  TensorEncode stage1;
  const std::uint8_t *projection, *byte_projection;
  float levels[16];  // of each index
  std::uint8_t* signs;
  __half* residual_norms;
};
// Both parts are centroids times a matrix, those of the sketch being the two signs.
struct SketchDecode {
  TensorDecode stage1, sketch;
};
template <typename Shape>
void launch_sketch_encode(cudaStream_t stream, int processors, const SketchEncode& arguments,
                          ElementType type);
template <typename Shape>
void launch_sketch_decode(cudaStream_t stream, int processors, const SketchDecode& arguments);

}  // namespace rotorquant::device
