#pragma once
// The distortion that a cascade of 3x3 blocks leaves, and its gradient.
//
//   J = sum_i log(lambda_i w_i + theta),  lambda = diag(F S_k F^T),  w = diag(F^-T S_q F^-1),
//   F = B_L .. B_1 diag(delta)
//
// S_k [d, d] covariance of keys, S_q [d, d] metric of queries, theta the level of reverse water-filling over
// the eigenvalues of S_q S_k at b bits a coordinate: a coordinate whose lambda w is far below theta gets no
// bits. By Hadamard's inequality J is least, sum log(eigenvalue + theta), when F diagonalises both.
// Parameters of BlockKind::rotor: log delta [d], then a quaternion (w, x, y, z) of any length for each block,
// layer by layer; of BlockKind::general: the blocks, 9 numbers each row-major (delta = 1).
#include <array>
#include <cstdint>
#include <vector>

#include "evaluation/calibration/matrix.hpp"
#include "rotorquant/quantizers/calibrated_parameters.hpp"

namespace rotorquant::evaluation::calibration {

using Triple = std::array<std::int32_t, 3>;

// theta of the eigenvalues (all positive) at `bits` a coordinate:
// sum max(0, 1/2 log2(eigenvalue / theta)) = bits * d.
double water_level(const Vector& eigenvalues, double bits);
// Eigenvalues of S_q S_k, ascending, floored at 1e-12.
Vector product_eigenvalues(const Matrix& key_covariance, const Matrix& query_metric);

class CascadeObjective {
 public:
  CascadeObjective(BlockKind kind, std::vector<std::vector<Triple>> layers, const Matrix& key_covariance,
                   const Matrix& query_metric, double theta);

  Eigen::Index num_parameters() const;
  // J at the parameters; gradient [num_parameters()].
  double operator()(const Vector& parameters, Vector& gradient) const;
  // The cascade of these parameters, rounded to float32.
  BlockCascade cascade(const Vector& parameters) const;

 private:
  struct Step;  // one layer at work

  BlockKind kind_;
  std::vector<std::vector<Triple>> layers_;
  const Matrix& key_covariance_;
  const Matrix& query_metric_;
  double theta_;
};

// J of F itself, from its lambda and w.
double cascade_distortion(const Vector& lambda, const Vector& weights, double theta);

}  // namespace rotorquant::evaluation::calibration
