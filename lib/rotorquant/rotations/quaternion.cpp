#include "rotorquant/rotations/quaternion.hpp"

#include <cmath>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

// Hamilton product.
Quaternion multiply(const Quaternion& a, const Quaternion& b) {
  return {a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
          a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
          a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
          a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0]};
}

Quaternion conjugate(const Quaternion& q) {
  return {q[0], -q[1], -q[2], -q[3]};
}

Quaternion random_unit(RandomStream& stream) {
  Quaternion q{};
  double norm_sq = 0.0;
  for (double& component : q) {
    component = stream.normal();
    norm_sq += component * component;
  }
  for (double& component : q) component /= std::sqrt(norm_sq);
  return q;
}

}  // namespace

BlockRotation<4> quaternion_rotation(std::int64_t dim, Tail tail, const std::vector<Quaternion>& left,
                                     const std::optional<std::vector<Quaternion>>& right, Isa isa) {
  if (right && right->size() != left.size()) {
    throw Error("quaternion rotation: " + std::to_string(right->size()) +
                " right quaternions; valid: as many as left, " + std::to_string(left.size()));
  }
  std::vector<BlockRotation<4>::Matrix> matrices;
  for (std::size_t g = 0; g < left.size(); ++g) {
    BlockRotation<4>::Matrix& matrix = matrices.emplace_back();
    for (std::size_t column = 0; column < 4; ++column) {
      Quaternion basis{};
      basis[column] = 1.0;
      Quaternion image = multiply(left[g], basis);
      if (right) image = multiply(image, conjugate((*right)[g]));
      for (std::size_t row = 0; row < 4; ++row) matrix[4 * row + column] = static_cast<float>(image[row]);
    }
  }
  return {dim, tail, matrices, static_cast<std::int64_t>(left.size()) * (right ? 6 : 3), isa};
}

BlockRotation<4> random_quaternion_rotation(std::int64_t dim, Tail tail, QuaternionMode mode,
                                            std::uint64_t seed, Isa isa) {
  std::vector<Quaternion> left;
  std::vector<Quaternion> right;
  for (std::int64_t g = 0; g < rotated_block_count<4>(dim, tail); ++g) {
    RandomStream stream(seed, Purpose::rotor, static_cast<std::uint32_t>(g));
    left.push_back(random_unit(stream));
    right.push_back(random_unit(stream));
  }
  if (mode == QuaternionMode::fast) return quaternion_rotation(dim, tail, left, std::nullopt, isa);
  return quaternion_rotation(dim, tail, left, right, isa);
}

}  // namespace rotorquant
