#pragma once
// The second stage of two-stage codecs (quantizers/prod_codec.hpp) for any dim, sketch, norm type and scale
// rule: one thread a vector, beside scalar_rows.cuh. The general path; hopper/sketch_codec.cuh has the fast
// one.
#include "rotorquant/device/scalar_rows.cuh"
#include "rotorquant/quantizers/qjl.hpp"

namespace rotorquant::device {

struct SketchView {
  const float* matrix;      // S [sketch_dim, dim]
  const float* transposed;  // [dim, sketch_dim]
  int dim, sketch_dim;
  float factor;  // sqrt(pi/2) / sketch_dim

  __host__ __device__ int sign_bytes() const { return (sketch_dim + 7) / 8; }
};

class DeviceSketch {
 public:
  explicit DeviceSketch(const QjlSketch& sketch);

  SketchView view() const { return {matrix_.data(), transposed_.data(), dim_, sketch_dim_, factor_}; }

 private:
  Buffer<float> matrix_, transposed_;
  int dim_, sketch_dim_;
  float factor_;
};

// The arrays of two-stage codes; norms: nullptr where none are stored.
template <typename Byte>
struct TwoStageArrays {
  Byte *indices, *norms, *signs, *residual_norms;
};

// Of vectors whose first stage is coded: writes the signs of S (x - x^) and the norm of x - x^.
void encode_residuals(cudaStream_t stream, const ScalarView& codec, const SketchView& sketch,
                      const ConstDeviceTensor& x, const TwoStageArrays<std::uint8_t>& codes,
                      unsigned long long* refusals);
// Both stages.
void decode_two_stages(cudaStream_t stream, const ScalarView& codec, const SketchView& sketch,
                       const TwoStageArrays<const std::uint8_t>& codes, const DeviceTensor& x);
// queries [m, dim] -> S q [m, sketch_dim].
void sketch_queries(cudaStream_t stream, const SketchView& sketch, const float* queries, std::int64_t m,
                    float* sketched);
// scores(i, t) += factor |r_t| <S q_i, sign(S r_t)>, r the residuals; scores [m, n].
void add_sketch_scores(cudaStream_t stream, NormType norm_type, const SketchView& sketch,
                       const float* sketched, std::int64_t m, const std::uint8_t* signs,
                       const std::uint8_t* residual_norms, std::int64_t n, float* scores);

}  // namespace rotorquant::device
