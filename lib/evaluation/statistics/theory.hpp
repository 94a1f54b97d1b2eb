#pragma once
// What theory says about a scalar codec after a rotation, on unit vectors of R^d.
//
//   expected               E‖u - û‖² for u uniform on the sphere, integrated from the exact coordinate law: the
//                          same for every orthogonal rotation
//   mean squared error     D_mse(b) <= (√3 π / 2) 4^-b for any unit vector
//   inner products         D_prod(b) = E(⟨y,x⟩ - estimate)² <= (π / 2d) D_mse(b - 1), ‖x‖ = ‖y‖ = 1,
//                          D_mse(0) = 1
//
// The bounds are theorems 1 and 2 of TurboQuant (arXiv 2504.19874), for a dense Haar rotation.
#include <cstdint>
#include <string>

#include "rotorquant/codebooks/lloyd_max.hpp"

namespace rotorquant::evaluation {

struct Theory {
  int bits = 0;
  std::int64_t dim = 0;
  double expected_mse = 0.0;       // of the plain codec: key/nmse on isotropic data
  double mse_bound = 0.0;          // on D_mse(bits)
  double expected_prod_mse = 0.0;  // of stage 1 at bits - 1: the residual energy that the sketch carries
  double prod_variance_bound =
      0.0;  // on D_prod(bits), from the exact stage-1 distortion instead of its bound
};

double mse_bound(int bits);

// bits in 1..8, dim >= 1.
Theory theory(CodebookLaw law, int bits, std::int64_t dim);

// One line for a reader, such as "theory at 3 bits, d = 64, for isotropic unit vectors: every rotation has
// key/nmse 0.0334 (bound 0.0425); -prod has inner-product variance at most 0.00281".
std::string describe(const Theory& theory);

}  // namespace rotorquant::evaluation
