// Scale codes by a guess at the logarithm, kept where the bounds of the guessed code hold.
#include "rotorquant/quantizers/scale_codes.hpp"

#if defined(__x86_64__)
#include "rotorquant/core/avx2.hpp"

namespace rotorquant {
using namespace avx2;

ROTORQUANT_AVX2 std::uint32_t ScaleCodes::nearest_between_avx2(const float* least, const float* most,
                                                               std::int32_t* codes) const {
  // log2(2^e m) ~ e - 5/3 + 2 m - m^2 / 3 for m in [1, 2), off by less than a hundredth.
  const __m256 low = _mm256_loadu_ps(least), high = _mm256_loadu_ps(most);
  const __m256i word = _mm256_castps_si256(low);
  const __m256i fraction = _mm256_and_si256(word, _mm256_set1_epi32(0x007FFFFF));
  const __m256 mantissa = _mm256_or_ps(_mm256_castsi256_ps(fraction), _mm256_set1_ps(1.0F));
  const __m256 exponent =
      _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(word, 23), _mm256_set1_epi32(127)));
  const __m256 parabola =
      _mm256_fmadd_ps(_mm256_fmadd_ps(mantissa, _mm256_set1_ps(-1.0F / 3.0F), _mm256_set1_ps(2.0F)), mantissa,
                      _mm256_set1_ps(-5.0F / 3.0F));
  const __m256 logarithm = _mm256_add_ps(exponent, parabola);
  const __m256 place = _mm256_fmadd_ps(logarithm, _mm256_set1_ps(octaves_), _mm256_set1_ps(first_));
  const __m256i floor = _mm256_cvttps_epi32(_mm256_floor_ps(place));
  const __m256i code =
      _mm256_min_epi32(_mm256_max_epi32(floor, _mm256_setzero_si256()), _mm256_set1_epi32(count() - 1));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), code);
  // The float next below or above a bound may be the bound's own.
  const __m256 above = _mm256_mul_ps(high, _mm256_set1_ps(1.0F + 0x1p-22F));
  const __m256 below = _mm256_mul_ps(low, _mm256_set1_ps(1.0F - 0x1p-22F));
  const __m256 from =
      _mm256_cmp_ps(below, _mm256_i32gather_ps(bounds_.data(), code, sizeof(float)), _CMP_GT_OQ);
  const __m256 to =
      _mm256_cmp_ps(above, _mm256_i32gather_ps(bounds_.data() + 1, code, sizeof(float)), _CMP_LT_OQ);
  const __m256 known = _mm256_cmp_ps(below, _mm256_set1_ps(static_cast<float>(least_energy_)), _CMP_GT_OQ);
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_and_ps(_mm256_and_ps(from, to), known)));
}

}  // namespace rotorquant
#endif
