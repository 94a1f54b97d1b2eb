// Costs of level_search.hpp, 32 vectors at a time. A coordinate's width is that of all of them, so that up to
// five bits its boundaries and levels are in registers.
#include "rotorquant/quantizers/level_search.hpp"

#if defined(__x86_64__)
#include <utility>

#include "rotorquant/codes/tree_search_avx2.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

constexpr int together = 2;  // registers of vectors
static_assert(cascade_lanes % (together * lanes) == 0);

// y - scale level.
template <int width>
class LevelErrors {
 public:
  ROTORQUANT_AVX2_INLINE explicit LevelErrors(const NormalLevels& levels)
      : search_(levels.tree()), table_(levels.levels()) {}
  ROTORQUANT_AVX2_INLINE __m256 operator()(__m256 y, __m256 scale, __m256 inverse) const {
    return _mm256_fnmadd_ps(scale, table_(search_.index(_mm256_mul_ps(y, inverse))), y);
  }

 private:
  TreeSearch<width> search_;
  RegisterTable<width> table_;
};
template <>
class LevelErrors<0> {
 public:
  ROTORQUANT_AVX2_INLINE explicit LevelErrors(const NormalLevels&) {}
  ROTORQUANT_AVX2_INLINE __m256 operator()(__m256 y, __m256, __m256) const { return y; }
};

struct Lanes {
  const float* columns;
  const float* less;
  const float* diagonal;
  __m256 scale[together];
  __m256 inverse[together];
};

// Adds the costs of coordinates [begin, end), all of this width.
template <int width>
ROTORQUANT_AVX2_INLINE void add_costs(const Lanes& in, const NormalLevels& levels, std::int64_t begin,
                                      std::int64_t end, __m256 (&costs)[together]) {
  const LevelErrors<width> error_of(levels);
  for (std::int64_t i = begin; i < end; ++i) {
    const __m256 diagonal = _mm256_set1_ps(in.diagonal[i]);
    const __m256 less = _mm256_set1_ps(in.less == nullptr ? 0.0F : in.less[i]);
    for (int h = 0; h < together; ++h) {
      const __m256 y = _mm256_sub_ps(_mm256_load_ps(in.columns + i * cascade_lanes + h * lanes), less);
      const __m256 error = error_of(y, in.scale[h], in.inverse[h]);
      costs[h] = _mm256_fmadd_ps(_mm256_mul_ps(diagonal, error), error, costs[h]);
    }
  }
}

}  // namespace

ROTORQUANT_AVX2 void level_costs_avx2(const LevelSearch& search, const float* columns, const float* less,
                                      const float* scales, float* costs) {
  for (std::int64_t first = 0; first < cascade_lanes; first += together * lanes) {
    Lanes in{columns + first, less, search.diagonal, {}, {}};
    __m256 sums[together];
    for (int h = 0; h < together; ++h) {
      in.scale[h] = _mm256_loadu_ps(scales + first + h * lanes);
      in.inverse[h] = _mm256_div_ps(_mm256_set1_ps(1.0F), in.scale[h]);
      sums[h] = _mm256_setzero_ps();
    }
    std::int64_t begin = 0;
    const auto of_width = [&]<int width>() ROTORQUANT_AVX2_LAMBDA {
      const std::int64_t end = search.ends[width];
      if (end <= begin) return;
      add_costs<width>(in, search.levels[width], begin, end, sums);
      begin = end;
    };
    [&]<int... narrower>(std::integer_sequence<int, narrower...>) ROTORQUANT_AVX2_LAMBDA {
      (of_width.template operator()<max_width - narrower>(), ...);
    }
    (std::make_integer_sequence<int, max_width + 1>());
    for (int h = 0; h < together; ++h) _mm256_storeu_ps(costs + first + h * lanes, sums[h]);
  }
}

}  // namespace rotorquant
#endif
