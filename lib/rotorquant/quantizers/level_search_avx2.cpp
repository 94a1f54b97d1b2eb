// The search of level_search.hpp, eight coordinates at a time.
#include "rotorquant/quantizers/level_search.hpp"

#if defined(__x86_64__)
#include "rotorquant/core/avx2.hpp"

namespace rotorquant {
using namespace avx2;

ROTORQUANT_AVX2 double squared_distance_avx2(const float* x, const float* y, const float* offset,
                                             std::int64_t count) {
  // Lane i of eight running sums, in float64, where products of float32 numbers are exact.
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
  for (std::int64_t first = 0; first < count; first += lanes) {
    const auto own = [&](const float* row) ROTORQUANT_AVX2_LAMBDA {
      return load<ElementType::float32>(row, first, count - first);
    };
    __m256 difference = _mm256_sub_ps(own(x), own(y));
    if (offset != nullptr) difference = _mm256_add_ps(difference, own(offset));
    const __m256d four = _mm256_cvtps_pd(_mm256_castps256_ps128(difference));
    const __m256d rest = _mm256_cvtps_pd(_mm256_extractf128_ps(difference, 1));
    low = _mm256_fmadd_pd(four, four, low);
    high = _mm256_fmadd_pd(rest, rest, high);
  }
  const __m256d four = _mm256_add_pd(low, high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

}  // namespace rotorquant
#endif
