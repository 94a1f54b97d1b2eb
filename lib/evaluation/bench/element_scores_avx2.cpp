#include "evaluation/bench/element_scores_avx2.hpp"

#if defined(__x86_64__)
#include "rotorquant/core/avx2.hpp"

namespace rotorquant::evaluation {
namespace {

using namespace avx2;

// Numbers [first, first + 8) of a row of `count`; whole: they are all there.
template <ElementType type, bool whole>
ROTORQUANT_AVX2_INLINE __m256 load_eight(const void* row, std::int64_t first, std::int64_t count) {
  if constexpr (whole) return load<type>(row, first);
  return load<type>(row, first, count - first);
}

// Of `together` queries from `first` on. whole: rows fill their last register.
template <ElementType type, int together, bool whole>
ROTORQUANT_AVX2 void score_queries(HostView<const float> queries, std::int64_t first,
                                   const ConstHostTensor& x, const ScoreRows& scores) {
  for (std::int64_t t = 0; t < x.rows; ++t) {
    const std::uint8_t* row = x.row(t);
    __m256 sums[together][2];
    for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_ps();
    for_each_eight(x.cols, [&](std::int64_t c, int half) ROTORQUANT_AVX2_LAMBDA {
      const __m256 values = load_eight<type, whole>(row, c, x.cols);
#pragma GCC unroll 4
      for (int i = 0; i < together; ++i) {
        const __m256 query = load_eight<ElementType::float32, whole>(queries.row(first + i), c, x.cols);
        sums[i][half] = _mm256_add_ps(sums[i][half], _mm256_mul_ps(query, values));
      }
    });
    for (int i = 0; i < together; ++i)
      scores.data[(first + i) * scores.stride + t] = fold(sums[i][0], sums[i][1]);
  }
}

template <ElementType type, bool whole>
void score_type(HostView<const float> queries, const ConstHostTensor& x, const ScoreRows& scores) {
  constexpr std::int64_t together = 4;
  // Rows stay in the first-level cache from one group of queries to the next.
  constexpr std::int64_t rows_together = 16;
  for (std::int64_t t = 0; t < x.rows; t += rows_together) {
    const ConstHostTensor rows = x.row_range(t, std::min(rows_together, x.rows - t));
    const ScoreRows part{scores.data + t, scores.stride};
    std::int64_t i = 0;
    for (; i + together <= queries.rows; i += together)
      score_queries<type, together, whole>(queries, i, rows, part);
    for (; i < queries.rows; ++i) score_queries<type, 1, whole>(queries, i, rows, part);
  }
}

}  // namespace

void score_elements_avx2(HostView<const float> queries, const ConstHostTensor& x, const ScoreRows& scores) {
  dispatch_type(x.type, [&]<ElementType type>() {
    if (x.cols % lanes == 0) return score_type<type, true>(queries, x, scores);
    score_type<type, false>(queries, x, scores);
  });
}

}  // namespace rotorquant::evaluation
#endif
