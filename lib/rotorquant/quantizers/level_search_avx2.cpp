// The search of level_search.hpp, eight coordinates of one width at a time.
#include "rotorquant/quantizers/level_search.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <bit>
#include <cstring>

#include "rotorquant/codes/tree_search_avx2.hpp"
#include "rotorquant/core/squares_avx2.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

ROTORQUANT_AVX2_INLINE __m256 load_floats(const float* row, std::int64_t first, std::int64_t count) {
  return load<ElementType::float32>(row, first, count);
}

// Of up to eight coordinates.
ROTORQUANT_AVX2_INLINE __m256i load_symbols(const std::uint8_t* symbols, std::int64_t count) {
  std::uint64_t bytes = 0;
  std::memcpy(&bytes, symbols, static_cast<std::size_t>(std::min(count, lanes)));
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<std::int64_t>(bytes)));
}
ROTORQUANT_AVX2_INLINE void store_symbols(std::uint8_t* symbols, std::int64_t count, __m256i indices) {
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(indices), _mm256_extracti128_si256(indices, 1));
  const std::int64_t bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words));
  std::memcpy(symbols, &bytes, static_cast<std::size_t>(std::min(count, lanes)));
}

template <int width>
ROTORQUANT_AVX2 void search_run(const NormalLevels& levels, std::int64_t begin, std::int64_t end,
                                const float* y, float scale, std::uint8_t* symbols) {
  const TreeSearch<width> search(levels.tree());
  const __m256 inverse = _mm256_set1_ps(1.0F / scale);
  for (std::int64_t first = begin; first < end; first += lanes) {
    const __m256 scaled = _mm256_mul_ps(load_floats(y, first, end - first), inverse);
    store_symbols(symbols + first, end - first, search.index(scaled));
  }
}

// gradient -= step row, both [dim].
ROTORQUANT_AVX2_INLINE void move_gradient(float step, const float* row, std::int64_t dim, float* gradient) {
  const __m256 steps = _mm256_set1_ps(step);
  for (std::int64_t j = 0; j < dim; j += lanes) {
    const __m256 product = _mm256_mul_ps(steps, load_floats(row, j, dim - j));
    const __m256 moved = _mm256_sub_ps(load_floats(gradient, j, dim - j), product);
    store<ElementType::float32>(moved, gradient, j, dim - j);
  }
}

// Eight coordinates are asked together whether they move; the first that does changes the others' gradient,
// and those after it are asked again.
template <int width>
ROTORQUANT_AVX2 bool descend_run(const DescentProblem& problem, std::int64_t begin, std::int64_t end,
                                 float* gradient, std::uint8_t* symbols) {
  const NormalLevels& levels = problem.search.levels[width];
  const TreeSearch<width> search(levels.tree());
  const RegisterTable<width> table(levels.levels());
  const __m256 scale = _mm256_set1_ps(problem.scale), inverse = _mm256_set1_ps(1.0F / problem.scale);
  bool changed = false;
  for (std::int64_t first = begin; first < end; first += lanes) {
    const std::int64_t count = std::min(lanes, end - first);
    const __m256 diagonal = load_floats(problem.search.diagonal, first, count);
    std::uint32_t waiting = (1U << count) - 1U;
    while (waiting != 0) {
      const __m256i old = load_symbols(symbols + first, count);
      const __m256 pull = _mm256_div_ps(load_floats(gradient, first, count), diagonal);
      const __m256 target = _mm256_add_ps(_mm256_mul_ps(scale, table(old)), pull);
      const __m256i found = search.index(_mm256_mul_ps(target, inverse));
      const __m256 same = _mm256_castsi256_ps(_mm256_cmpeq_epi32(found, old));
      const std::uint32_t moving = waiting & ~static_cast<std::uint32_t>(_mm256_movemask_ps(same));
      if (moving == 0) break;
      const int lane = std::countr_zero(moving);
      std::uint8_t indices[lanes];
      store_symbols(indices, lanes, found);
      std::uint8_t& symbol = symbols[first + lane];
      const float step = problem.scale * (levels[indices[lane]] - levels[symbol]);
      symbol = indices[lane];
      const std::int64_t dim = problem.search.dim;
      move_gradient(step, problem.metric + (first + lane) * dim, dim, gradient);
      changed = true;
      waiting &= ~((2U << lane) - 1U);
    }
  }
  return changed;
}

}  // namespace

void search_levels_avx2(const LevelSearch& search, const float* y, float scale, std::uint8_t* symbols) {
  search.for_widths([&](auto width, std::int64_t begin, std::int64_t end) {
    search_run<width()>(search.levels[width()], begin, end, y, scale, symbols);
  });
}

bool descend_once_avx2(const DescentProblem& problem, float* gradient, std::uint8_t* symbols) {
  bool changed = false;
  problem.search.for_widths([&](auto width, std::int64_t begin, std::int64_t end) {
    changed |= descend_run<width()>(problem, begin, end, gradient, symbols);
  });
  return changed;
}

ROTORQUANT_AVX2 double squared_distance_avx2(const float* x, const float* y, const float* offset,
                                             std::int64_t count) {
  DoubleSquares squares;
  for (std::int64_t first = 0; first < count; first += lanes) {
    const auto own = [&](const float* row)
                         ROTORQUANT_AVX2_LAMBDA { return load_floats(row, first, count - first); };
    __m256 difference = _mm256_sub_ps(own(x), own(y));
    if (offset != nullptr) difference = _mm256_add_ps(difference, own(offset));
    squares.add(difference);
  }
  return squares.total();
}

}  // namespace rotorquant
#endif
