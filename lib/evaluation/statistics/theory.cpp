#include "evaluation/statistics/theory.hpp"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

namespace rotorquant::evaluation {

double mse_bound(int bits) {
  return 0.5 * std::numbers::sqrt3 * std::numbers::pi * std::pow(4.0, -bits);
}

Theory theory(CodebookLaw law, int bits, std::int64_t dim) {
  Theory result;
  result.bits = bits;
  result.dim = dim;
  result.expected_mse = expected_distortion(lloyd_max_codebook(law, bits, dim), dim);
  result.mse_bound = mse_bound(bits);
  result.expected_prod_mse =
      bits == 1 ? 1.0 : expected_distortion(lloyd_max_codebook(law, bits - 1, dim), dim);
  result.prod_variance_bound = std::numbers::pi / (2.0 * static_cast<double>(dim)) * result.expected_prod_mse;
  return result;
}

std::string describe(const Theory& theory) {
  return fmt::format(
      "theory at {} bit{}, d = {}, for isotropic unit vectors: every rotation has key/nmse {:.3g} (bound "
      "{:.3g}); -prod has "
      "inner-product variance at most {:.3g}",
      theory.bits, theory.bits == 1 ? "" : "s", theory.dim, theory.expected_mse, theory.mse_bound,
      theory.prod_variance_bound);
}

}  // namespace rotorquant::evaluation
