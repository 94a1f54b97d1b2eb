#include "rotorquant/rotations/hadamard.hpp"

#include <bit>
#include <cmath>
#include <utility>

#include "rotorquant/codes/plane_nibbles.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"
#include "rotorquant/rotations/rotation_kernels.hpp"

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

HadamardRotation::HadamardRotation(std::int64_t dim, std::vector<float> signs, Isa isa)
    : dim_(dim), signs_(std::move(signs)), isa_(isa) {
  if (static_cast<std::int64_t>(signs_.size()) != dim) {
    throw Error("hadamard rotation: " + std::to_string(signs_.size()) +
                " signs; valid: dim = " + std::to_string(dim));
  }
}

HadamardRotation HadamardRotation::random(std::int64_t dim, std::uint64_t seed, Isa isa) {
  RandomStream stream(seed, Purpose::hadamard_signs);
  std::vector<float> signs(static_cast<std::size_t>(dim));
  for (float& sign : signs) sign = stream.uniform() < 0.5 ? -1.0F : 1.0F;
  return {dim, std::move(signs), isa};
}

// Coordinates [offset, offset + size) of one row.
void HadamardRotation::transform_block(const float* x, std::int64_t offset, std::int64_t size, bool transpose,
                                       float* y) const {
  const float* in = x + offset;
  const float* signs = signs_.data() + offset;
  float* out = y + offset;
  for (std::int64_t i = 0; i < size; ++i) out[i] = transpose ? in[i] : signs[i] * in[i];
  bool transformed = false;
#if defined(__x86_64__)
  if (isa_ == Isa::avx2 && size >= least_hadamard_avx2) {
    hadamard_transform_avx2(out, size);
    transformed = true;
  }
#endif
  if (!transformed) hadamard_transform(out, size);
  for (std::int64_t i = 0; i < size && transpose; ++i) out[i] *= signs[i];
}

bool HadamardRotation::in_registers(Isa isa) const {
  return isa_ == isa && hadamard_in_registers(dim_);
}

void HadamardRotation::apply(HostView<const float> x, HostView<float> y) const {
#if defined(__x86_64__)
  if (in_registers(Isa::avx512)) return hadamard_rows_avx512(signs_.data(), false, x, y);
  if (in_registers(Isa::avx2)) return hadamard_rows_avx2(signs_.data(), false, x, y);
#endif
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for_each_block(dim_, [&](std::int64_t offset, std::int64_t size) {
      transform_block(x.row(r), offset, size, false, y.row(r));
    });
  }
}

void HadamardRotation::apply_transpose(HostView<const float> y, HostView<float> x) const {
#if defined(__x86_64__)
  if (in_registers(Isa::avx512)) return hadamard_rows_avx512(signs_.data(), true, y, x);
  if (in_registers(Isa::avx2)) return hadamard_rows_avx2(signs_.data(), true, y, x);
#endif
  for (std::int64_t r = 0; r < y.rows; ++r) {
    for_each_block(dim_, [&](std::int64_t offset, std::int64_t size) {
      transform_block(y.row(r), offset, size, true, x.row(r));
    });
  }
}

void HadamardRotation::apply_scaled(const ConstHostTensor& x, const float* factors, HostView<float> y) const {
#if defined(__x86_64__)
  if (in_registers(Isa::avx512)) return hadamard_rows_avx512(signs_.data(), x, factors, y);
  if (in_registers(Isa::avx2)) return hadamard_rows_avx2(signs_.data(), x, factors, y);
#endif
  Rotation::apply_scaled(x, factors, y);
}

void HadamardRotation::apply_transpose_scaled(HostView<const float> y, const float* factors, bool stream,
                                              const HostTensor& x) const {
#if defined(__x86_64__)
  if (in_registers(Isa::avx512)) return hadamard_rows_avx512(signs_.data(), y, factors, stream, x);
  if (in_registers(Isa::avx2)) return hadamard_rows_avx2(signs_.data(), y, factors, stream, x);
#endif
  Rotation::apply_transpose_scaled(y, factors, stream, x);
}

bool HadamardRotation::unit_rows_to_planes(const ConstHostTensor& x, float* norms,
                                           const PlaneCodebook& codebook, std::uint8_t* planes) const {
#if defined(__x86_64__)
  if (in_registers(Isa::avx512) && x.type != ElementType::float32) {
    hadamard_rows_avx512(signs_.data(), x, norms, codebook, planes);
    return true;
  }
  if (in_registers(Isa::avx2) && x.type != ElementType::float32) {
    hadamard_rows_avx2(signs_.data(), x, norms, codebook, planes);
    return true;
  }
#endif
  return Rotation::unit_rows_to_planes(x, norms, codebook, planes);
}

bool HadamardRotation::apply_transpose_of_planes(const std::uint8_t* planes, const PlaneCodebook& codebook,
                                                 const float* factors, bool stream,
                                                 const HostTensor& x) const {
#if defined(__x86_64__)
  if (in_registers(Isa::avx512) && nibbles_supported(isa_)) {
    const std::uint8_t* nibbles = nibbles_of_planes(codebook.bits, planes, x.rows, dim_);
    hadamard_rows_avx512(signs_.data(), nibbles, codebook, factors, stream, x);
    return true;
  }
  if (in_registers(Isa::avx2)) {
    hadamard_rows_avx2(signs_.data(), planes, codebook, factors, stream, x);
    return true;
  }
#endif
  return Rotation::apply_transpose_of_planes(planes, codebook, factors, stream, x);
}

RotationProgram HadamardRotation::program() const {
  return {RotationProgram::Kind::hadamard, dim_, dim_, {}, signs_};
}

}  // namespace rotorquant
