// Scale codes by a guess at the logarithm, kept where the bounds of the guessed code hold.
#include "rotorquant/quantizers/scale_codes.hpp"

#if defined(__x86_64__)
#include "rotorquant/core/avx512.hpp"

namespace rotorquant {
using namespace avx512;

ROTORQUANT_AVX512 std::uint32_t ScaleCodes::nearest_between_avx512(const float* least, const float* most,
                                                                   std::int32_t* codes) const {
  // log2(2^e m) ~ e - 5/3 + 2 m - m^2 / 3 for m in [1, 2), off by less than a hundredth.
  const __m512 low = _mm512_loadu_ps(least), high = _mm512_loadu_ps(most);
  const __m512 mantissa = _mm512_getmant_ps(low, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
  const __m512 parabola =
      _mm512_fmadd_ps(_mm512_fmadd_ps(mantissa, _mm512_set1_ps(-1.0F / 3.0F), _mm512_set1_ps(2.0F)), mantissa,
                      _mm512_set1_ps(-5.0F / 3.0F));
  const __m512 logarithm = _mm512_add_ps(_mm512_getexp_ps(low), parabola);
  const __m512 place = _mm512_fmadd_ps(logarithm, _mm512_set1_ps(octaves_), _mm512_set1_ps(first_));
  const __m512i floor = _mm512_cvt_roundps_epi32(place, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  const __m512i code =
      _mm512_min_epi32(_mm512_max_epi32(floor, _mm512_setzero_si512()), _mm512_set1_epi32(count() - 1));
  _mm512_storeu_si512(codes, code);
  // The float next below or above a bound may be the bound's own.
  const __m512 above = _mm512_mul_ps(high, _mm512_set1_ps(1.0F + 0x1p-22F));
  const __m512 below = _mm512_mul_ps(low, _mm512_set1_ps(1.0F - 0x1p-22F));
  const __mmask16 from =
      _mm512_cmp_ps_mask(below, _mm512_i32gather_ps(code, bounds_.data(), sizeof(float)), _CMP_GT_OQ);
  const __mmask16 to =
      _mm512_cmp_ps_mask(above, _mm512_i32gather_ps(code, bounds_.data() + 1, sizeof(float)), _CMP_LT_OQ);
  const __mmask16 known =
      _mm512_cmp_ps_mask(below, _mm512_set1_ps(static_cast<float>(least_energy_)), _CMP_GT_OQ);
  return _cvtmask16_u32(from & to & known);
}

}  // namespace rotorquant
#endif
