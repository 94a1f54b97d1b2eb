// The search of level_search.hpp, 16 coordinates at a time: down each width's tree of boundaries, which a register
// holds up to 4 bits, for the lanes of that width.
#include "rotorquant/quantizers/level_search.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/core/folds_avx512.hpp"
#include "rotorquant/quantizers/level_indices_avx512.hpp"

namespace rotorquant {
using namespace avx512;

ROTORQUANT_AVX512 void search_levels_avx512(const LevelSearch& search, const float* y, float scale,
                                            std::uint8_t* symbols) {
  const __m512 inverse = _mm512_set1_ps(1.0F / scale);
  const std::int64_t used = search.ends[1];
  int width = max_width;
  for (std::int64_t first = 0; first < used; first += lanes) {
    const __mmask16 valid = lanes_below(used - first);
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(valid, y + first), inverse);
    __m512i found = _mm512_setzero_si512();
    __mmask16 done = 0;
    for (;;) {
      const std::int64_t end = search.ends[static_cast<std::size_t>(width)];
      const auto below = static_cast<__mmask16>(lanes_below(std::max<std::int64_t>(0, end - first)) & valid);
      const auto own = static_cast<__mmask16>(below & ~done);
      if (own != 0)
        found = _mm512_mask_mov_epi32(found, own, indices_of(search.levels[width], width, scaled));
      done = below;
      if (done == valid) break;
      --width;
    }
    if (valid == 0xFFFF) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols + first), _mm512_cvtepi32_epi8(found));
    } else {
      _mm_mask_storeu_epi8(symbols + first, valid, _mm512_cvtepi32_epi8(found));
    }
  }
}

ROTORQUANT_AVX512 double squared_distance_avx512(const float* x, const float* y, const float* offset,
                                                 std::int64_t count) {
  __m512d sums = _mm512_setzero_pd();
  for (std::int64_t first = 0; first < count; first += lanes) {
    const __mmask16 valid = lanes_below(count - first);
    __m512 difference =
        _mm512_sub_ps(_mm512_maskz_loadu_ps(valid, x + first), _mm512_maskz_loadu_ps(valid, y + first));
    if (offset != nullptr)
      difference = _mm512_add_ps(difference, _mm512_maskz_loadu_ps(valid, offset + first));
    sums = add_squares(sums, difference);
  }
  return total(sums);
}

}  // namespace rotorquant
#endif
