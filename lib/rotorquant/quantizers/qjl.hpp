#pragma once
// The quantized Johnson-Lindenstrauss sketch: one bit a projection.
//
// For r in R^d and S [m, d] of independent N(0, 1): store sign(S r) with sign(0) = +1. For any y,
//   E_S[ sqrt(pi/2) / m * ||r|| <S y, sign(S r)> ] = <y, r>.
// Source: Zandieh, Daliri, Han, "QJL: 1-bit quantized JL transform for KV cache quantization with zero
// overhead" (arXiv 2406.03482), Definition 3.1 and Lemma 3.2.
#include <cstdint>
#include <vector>

#include "rotorquant/core/view.hpp"

namespace rotorquant {

class QjlSketch {
 public:
  // matrix [sketch_dim, dim], row-major.
  QjlSketch(std::int64_t dim, std::int64_t sketch_dim, std::vector<float> matrix);
  // Entries drawn row by row from the stream (seed, Purpose::qjl).
  static QjlSketch random(std::int64_t dim, std::int64_t sketch_dim, std::uint64_t seed);

  std::int64_t dim() const { return dim_; }
  std::int64_t sketch_dim() const { return sketch_dim_; }
  // sqrt(pi/2) / m.
  float factor() const { return factor_; }
  const std::vector<float>& matrix() const { return matrix_; }        // S [sketch_dim, dim]
  const std::vector<float>& transpose() const { return transpose_; }  // [dim, sketch_dim]

  // x [n, dim] -> S x, [n, sketch_dim].
  void project(HostView<const float> x, HostView<float> projections) const;
  // y [n, sketch_dim] -> S^T y, [n, dim].
  void project_transpose(HostView<const float> y, HostView<float> x) const;

 private:
  std::int64_t dim_;
  std::int64_t sketch_dim_;
  std::vector<float> matrix_;     // [sketch_dim, dim]
  std::vector<float> transpose_;  // [dim, sketch_dim]
  float factor_;
};

}  // namespace rotorquant
