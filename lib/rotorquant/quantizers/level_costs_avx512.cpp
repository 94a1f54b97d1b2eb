// Costs of level_search.hpp, 32 vectors at a time. A coordinate's width is that of all of them, so that up to
// four bits its levels are in registers and found by the magnitude alone.
#include "rotorquant/quantizers/level_search.hpp"

#if defined(__x86_64__)
#include <utility>

#include "rotorquant/codes/plane_registers_avx512.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"
#include "rotorquant/quantizers/level_indices_avx512.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

constexpr int halves = 2;
static_assert(halves * lanes == cascade_lanes);

struct Lanes {
  const float* columns;
  const float* less;
  const float* diagonal;
  __m512 scale[halves];
  __m512 inverse[halves];
};

// y - scale level, but for its sign, by width.
template <int width>
class LevelErrors {
 public:
  ROTORQUANT_AVX512_INLINE explicit LevelErrors(const NormalLevels& levels) : search_(levels.registers()) {
    for (int i = 0; i < count; ++i) positive_[i] = _mm512_set1_ps(levels.levels()[count + i]);
    table_ = _mm512_maskz_loadu_ps((1U << count) - 1U, levels.levels() + count);
  }

  ROTORQUANT_AVX512_INLINE __m512 operator()(__m512 y, __m512 scale, __m512 inverse) const {
    __mmask16 masks[width];
    search_.compare(_mm512_mul_ps(y, inverse), masks);
    return _mm512_fnmadd_ps(scale, level_of(masks), _mm512_abs_ps(y));
  }

 private:
  ROTORQUANT_AVX512_INLINE __m512 level_of(const __mmask16 (&masks)[width]) const {
    if constexpr (width == 2) return _mm512_mask_blend_ps(masks[0], positive_[0], positive_[1]);
    if constexpr (width == 3) {
      return _mm512_mask_blend_ps(masks[0], _mm512_mask_blend_ps(masks[1], positive_[0], positive_[2]),
                                  _mm512_mask_blend_ps(masks[1], positive_[1], positive_[3]));
    }
    __m512i index = _mm512_maskz_set1_epi32(masks[0], 1);
    index = _mm512_mask_or_epi32(index, masks[1], index, _mm512_set1_epi32(2));
    index = _mm512_mask_or_epi32(index, masks[width - 2], index, _mm512_set1_epi32(4));
    return _mm512_permutexvar_ps(index, table_);
  }

  static constexpr int count = 1 << (width - 1);  // of the levels above 0
  SymmetricSearch<width> search_;
  __m512 positive_[count];
  __m512 table_;
};
template <>
class LevelErrors<0> {
 public:
  ROTORQUANT_AVX512_INLINE explicit LevelErrors(const NormalLevels&) {}
  ROTORQUANT_AVX512_INLINE __m512 operator()(__m512 y, __m512, __m512) const { return y; }
};
template <>
class LevelErrors<1> {
 public:
  ROTORQUANT_AVX512_INLINE explicit LevelErrors(const NormalLevels& levels)
      : level_(_mm512_set1_ps(levels.levels()[1])) {}
  ROTORQUANT_AVX512_INLINE __m512 operator()(__m512 y, __m512 scale, __m512) const {
    return _mm512_fnmadd_ps(scale, level_, _mm512_abs_ps(y));
  }

 private:
  __m512 level_;
};
template <int width>
requires(width > most_plane_codebook_bits) class LevelErrors<width> {
 public:
  ROTORQUANT_AVX512_INLINE explicit LevelErrors(const NormalLevels& levels) : levels_(levels) {}
  ROTORQUANT_AVX512_INLINE __m512 operator()(__m512 y, __m512 scale, __m512 inverse) const {
    const __m512i indices = indices_of(levels_, width, _mm512_mul_ps(y, inverse));
    return _mm512_fnmadd_ps(scale, look_up(levels_.levels(), 1 << width, indices), y);
  }

 private:
  const NormalLevels& levels_;
};

// Adds the costs of coordinates [begin, end), all of this width.
template <int width>
ROTORQUANT_AVX512_INLINE void add_costs(const Lanes& in, const NormalLevels& levels, std::int64_t begin,
                                        std::int64_t end, __m512 (&costs)[halves]) {
  const LevelErrors<width> error_of(levels);
  for (std::int64_t i = begin; i < end; ++i) {
    const __m512 diagonal = _mm512_set1_ps(in.diagonal[i]);
    const __m512 less = _mm512_set1_ps(in.less == nullptr ? 0.0F : in.less[i]);
    for (int h = 0; h < halves; ++h) {
      const __m512 y = _mm512_sub_ps(_mm512_load_ps(in.columns + i * cascade_lanes + h * lanes), less);
      const __m512 error = error_of(y, in.scale[h], in.inverse[h]);
      costs[h] = _mm512_fmadd_ps(_mm512_mul_ps(diagonal, error), error, costs[h]);
    }
  }
}

}  // namespace

ROTORQUANT_AVX512 void level_costs_avx512(const LevelSearch& search, const float* columns, const float* less,
                                          const float* scales, float* costs) {
  Lanes in{columns, less, search.diagonal, {}, {}};
  __m512 sums[halves];
  for (int h = 0; h < halves; ++h) {
    in.scale[h] = _mm512_loadu_ps(scales + h * lanes);
    in.inverse[h] = _mm512_div_ps(_mm512_set1_ps(1.0F), in.scale[h]);
    sums[h] = _mm512_setzero_ps();
  }
  std::int64_t begin = 0;
  const auto of_width = [&]<int width>() ROTORQUANT_AVX512_LAMBDA {
    const std::int64_t end = search.ends[width];
    if (end <= begin) return;
    add_costs<width>(in, search.levels[width], begin, end, sums);
    begin = end;
  };
  [&]<int... narrower>(std::integer_sequence<int, narrower...>) ROTORQUANT_AVX512_LAMBDA {
    (of_width.template operator()<max_width - narrower>(), ...);
  }
  (std::make_integer_sequence<int, max_width + 1>());
  for (int h = 0; h < halves; ++h) _mm512_storeu_ps(costs + h * lanes, sums[h]);
}

}  // namespace rotorquant
#endif
