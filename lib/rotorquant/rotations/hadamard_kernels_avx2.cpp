// The Hadamard transform in AVX2: three levels inside registers, the others between them.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <cmath>

#include "rotorquant/core/avx2.hpp"

namespace rotorquant {
namespace {

using avx2::lanes;

// One level: each lane's partner is `distance` lanes away; the lower of the two takes a + b, the upper a - b.
// Multiplying by +-1 is exact, so that the fused operation rounds like a sum.
template <int distance>
ROTORQUANT_AVX2_INLINE __m256 butterfly(__m256 x) {
  const __m256 partner = distance == 1   ? _mm256_permute_ps(x, 0xB1)
                         : distance == 2 ? _mm256_permute_ps(x, 0x4E)
                                         : _mm256_permute2f128_ps(x, x, 0x01);
  constexpr int upper = distance == 1 ? 0xAA : distance == 2 ? 0xCC : 0xF0;
  const __m256 sign = _mm256_blend_ps(_mm256_set1_ps(1.0F), _mm256_set1_ps(-1.0F), upper);
  return _mm256_fmadd_ps(x, sign, partner);
}

}  // namespace

ROTORQUANT_AVX2 void hadamard_transform_avx2(float* data, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += lanes)
    _mm256_storeu_ps(data + i, butterfly<4>(butterfly<2>(butterfly<1>(_mm256_loadu_ps(data + i)))));
  const __m256 scale = _mm256_set1_ps(static_cast<float>(1.0 / std::sqrt(static_cast<double>(size))));
  for (std::int64_t stride = lanes; stride < size; stride *= 2) {
    for (std::int64_t base = 0; base < size; base += 2 * stride) {
      for (std::int64_t i = base; i < base + stride; i += lanes) {
        const __m256 a = _mm256_loadu_ps(data + i), b = _mm256_loadu_ps(data + i + stride);
        _mm256_storeu_ps(data + i, _mm256_add_ps(a, b));
        _mm256_storeu_ps(data + i + stride, _mm256_sub_ps(a, b));
      }
    }
  }
  for (std::int64_t i = 0; i < size; i += lanes)
    _mm256_storeu_ps(data + i, _mm256_mul_ps(_mm256_loadu_ps(data + i), scale));
}

}  // namespace rotorquant
#endif
