// The search of level_search.hpp, 16 coordinates at a time: down each width's tree of boundaries, which a
// register holds up to 4 bits, for the lanes of that width.
#include "rotorquant/quantizers/level_search.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <bit>

#include "rotorquant/core/folds_avx512.hpp"
#include "rotorquant/quantizers/level_indices_avx512.hpp"

namespace rotorquant {
using namespace avx512;

namespace {

// body(lanes of this width, width) for the coordinates [first, first + 16) with bits; `width` is that of the
// first, or more, and left at that of the last.
template <typename Body>
ROTORQUANT_AVX512_INLINE void for_widths(const LevelSearch& search, std::int64_t first, int& width,
                                         const Body& body) {
  const __mmask16 valid = lanes_below(search.ends[1] - first);
  __mmask16 done = 0;
  for (;;) {
    const std::int64_t end = search.ends[static_cast<std::size_t>(width)];
    const auto below = static_cast<__mmask16>(lanes_below(std::max<std::int64_t>(0, end - first)) & valid);
    const auto own = static_cast<__mmask16>(below & ~done);
    if (own != 0) body(own, width);
    done = below;
    if (done == valid) return;
    --width;
  }
}

}  // namespace

ROTORQUANT_AVX512 void search_levels_avx512(const LevelSearch& search, const float* y, float scale,
                                            std::uint8_t* symbols) {
  const __m512 inverse = _mm512_set1_ps(1.0F / scale);
  const std::int64_t used = search.ends[1];
  int width = max_width;
  for (std::int64_t first = 0; first < used; first += lanes) {
    const __mmask16 valid = lanes_below(used - first);
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(valid, y + first), inverse);
    __m512i found = _mm512_setzero_si512();
    for_widths(search, first, width, [&](__mmask16 own, int bits) ROTORQUANT_AVX512_LAMBDA {
      found = _mm512_mask_mov_epi32(found, own, indices_of(search.levels[bits], bits, scaled));
    });
    if (valid == 0xFFFF) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols + first), _mm512_cvtepi32_epi8(found));
    } else {
      _mm_mask_storeu_epi8(symbols + first, valid, _mm512_cvtepi32_epi8(found));
    }
  }
}

// Sixteen coordinates are asked together whether they move; the first that does changes the others' gradient,
// and those after it are asked again.
ROTORQUANT_AVX512 bool descend_once_avx512(const DescentProblem& problem, float* gradient,
                                           std::uint8_t* symbols) {
  const LevelSearch& search = problem.search;
  const __m512 scale = _mm512_set1_ps(problem.scale), inverse = _mm512_set1_ps(1.0F / problem.scale);
  bool changed = false;
  int first_width = max_width;
  for (std::int64_t first = 0; first < search.ends[1]; first += lanes) {
    const __mmask16 valid = lanes_below(search.ends[1] - first);
    const __m512 diagonal = _mm512_mask_loadu_ps(_mm512_set1_ps(1.0F), valid, search.diagonal + first);
    __mmask16 waiting = valid;
    int width = first_width;
    while (waiting != 0) {
      const __m512i old = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(valid, symbols + first));
      __m512 own_levels = _mm512_setzero_ps();
      width = first_width;
      for_widths(search, first, width, [&](__mmask16 own, int bits) ROTORQUANT_AVX512_LAMBDA {
        own_levels =
            _mm512_mask_mov_ps(own_levels, own, look_up(search.levels[bits].levels(), 1 << bits, old));
      });
      const __m512 pull = _mm512_div_ps(_mm512_maskz_loadu_ps(valid, gradient + first), diagonal);
      const __m512 target = _mm512_mul_ps(_mm512_add_ps(_mm512_mul_ps(scale, own_levels), pull), inverse);
      __m512i found = old;
      width = first_width;
      for_widths(search, first, width, [&](__mmask16 own, int bits) ROTORQUANT_AVX512_LAMBDA {
        found = _mm512_mask_mov_epi32(found, own, indices_of(search.levels[bits], bits, target));
      });
      const __mmask16 moving = _mm512_mask_cmpneq_epi32_mask(waiting, found, old);
      if (moving == 0) break;
      const int lane = std::countr_zero(static_cast<unsigned>(moving));
      alignas(64) std::int32_t indices[16];
      alignas(64) float levels[16];
      _mm512_store_si512(indices, found);
      _mm512_store_ps(levels, own_levels);
      int bits = max_width;
      while (search.ends[static_cast<std::size_t>(bits)] <= first + lane) --bits;
      const auto index = static_cast<std::uint8_t>(indices[lane]);
      const float step = problem.scale * (search.levels[bits][index] - levels[lane]);
      symbols[first + lane] = index;
      const __m512 steps = _mm512_set1_ps(step);
      const float* row = problem.metric + (first + lane) * search.dim;
      for (std::int64_t j = 0; j < search.dim; j += lanes) {
        const __mmask16 inside = lanes_below(search.dim - j);
        const __m512 product = _mm512_mul_ps(steps, _mm512_maskz_loadu_ps(inside, row + j));
        const __m512 moved = _mm512_sub_ps(_mm512_maskz_loadu_ps(inside, gradient + j), product);
        if (inside == 0xFFFF) {
          _mm512_storeu_ps(gradient + j, moved);
        } else {
          _mm512_mask_storeu_ps(gradient + j, inside, moved);
        }
      }
      changed = true;
      waiting = static_cast<__mmask16>(waiting & ~((2U << lane) - 1U));
    }
    first_width = width;
  }
  return changed;
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
