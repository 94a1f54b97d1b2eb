#include "rotorquant/quantizers/qjl.hpp"

#include <cmath>
#include <numbers>
#include <string>
#include <utility>

#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"
#include "rotorquant/core/transpose.hpp"

namespace rotorquant {

QjlSketch::QjlSketch(std::int64_t dim, std::int64_t sketch_dim, std::vector<float> matrix)
    : dim_(dim),
      sketch_dim_(sketch_dim),
      matrix_(std::move(matrix)),
      factor_(static_cast<float>(std::sqrt(std::numbers::pi / 2.0) / static_cast<double>(sketch_dim))) {
  if (static_cast<std::int64_t>(matrix_.size()) != dim * sketch_dim) {
    throw Error("QJL sketch: " + std::to_string(matrix_.size()) +
                " entries; valid: qjl_dim * dim = " + std::to_string(dim * sketch_dim));
  }
  transpose_ = rotorquant::transpose({matrix_.data(), sketch_dim, dim});
}

QjlSketch QjlSketch::random(std::int64_t dim, std::int64_t sketch_dim, std::uint64_t seed) {
  RandomStream stream(seed, Purpose::qjl);
  std::vector<float> matrix(static_cast<std::size_t>(dim * sketch_dim));
  for (float& entry : matrix) entry = static_cast<float>(stream.normal());
  return {dim, sketch_dim, std::move(matrix)};
}

void QjlSketch::project(HostView<const float> x, HostView<float> projections) const {
  dense_product(x, {transpose_.data(), dim_, sketch_dim_}, projections);
}

void QjlSketch::project_transpose(HostView<const float> y, HostView<float> x) const {
  dense_product(y, {matrix_.data(), sketch_dim_, dim_}, x);
}

}  // namespace rotorquant
