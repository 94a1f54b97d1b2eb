#include "rotorquant/rotations/hadamard.hpp"

#include <bit>
#include <cmath>
#include <utility>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

// body(offset, size) for the power-of-two blocks of `dim`, largest first.
template <typename Body>
void for_each_block(std::int64_t dim, const Body& body) {
  for (std::int64_t offset = 0; offset < dim;) {
    const auto size = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(dim - offset)));
    body(offset, size);
    offset += size;
  }
}

}  // namespace

void hadamard_transform(float* data, std::int64_t size) {
  for (std::int64_t stride = 1; stride < size; stride *= 2) {
    for (std::int64_t base = 0; base < size; base += 2 * stride) {
      for (std::int64_t i = base; i < base + stride; ++i) {
        const float a = data[i];
        const float b = data[i + stride];
        data[i] = a + b;
        data[i + stride] = a - b;
      }
    }
  }
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)));
  for (std::int64_t i = 0; i < size; ++i) data[i] *= scale;
}

HadamardRotation::HadamardRotation(std::int64_t dim, std::vector<float> signs)
    : dim_(dim), signs_(std::move(signs)) {
  if (static_cast<std::int64_t>(signs_.size()) != dim) {
    throw Error("hadamard rotation: " + std::to_string(signs_.size()) +
                " signs; valid: dim = " + std::to_string(dim));
  }
}

HadamardRotation HadamardRotation::random(std::int64_t dim, std::uint64_t seed) {
  RandomStream stream(seed, Purpose::hadamard_signs);
  std::vector<float> signs(static_cast<std::size_t>(dim));
  for (float& sign : signs) sign = stream.uniform() < 0.5 ? -1.0F : 1.0F;
  return {dim, std::move(signs)};
}

void HadamardRotation::apply(HostView<const float> x, HostView<float> y) const {
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const float* in = x.row(r);
    float* out = y.row(r);
    for (std::int64_t i = 0; i < dim_; ++i) out[i] = signs_[static_cast<std::size_t>(i)] * in[i];
    for_each_block(dim_,
                   [&](std::int64_t offset, std::int64_t size) { hadamard_transform(out + offset, size); });
  }
}

void HadamardRotation::apply_transpose(HostView<const float> y, HostView<float> x) const {
  for (std::int64_t r = 0; r < y.rows; ++r) {
    const float* in = y.row(r);
    float* out = x.row(r);
    for (std::int64_t i = 0; i < dim_; ++i) out[i] = in[i];
    for_each_block(dim_,
                   [&](std::int64_t offset, std::int64_t size) { hadamard_transform(out + offset, size); });
    for (std::int64_t i = 0; i < dim_; ++i) out[i] *= signs_[static_cast<std::size_t>(i)];
  }
}

}  // namespace rotorquant
