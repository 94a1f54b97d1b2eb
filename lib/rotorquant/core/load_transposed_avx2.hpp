#pragma once
// Squares of eight by eight numbers, transposed on their way into registers. Include only where __x86_64__ is
// defined.
#include "rotorquant/core/avx2.hpp"

namespace rotorquant::avx2 {

// Lane r of columns[c] is number c of the eight at place(r). Halves of two rows are put together as they are
// loaded, so that the units that shuffle have a third less to do than with transpose_eight().
template <typename Place>
ROTORQUANT_AVX2_INLINE void load_transposed(const Place& place, __m256 (&columns)[8]) {
#pragma GCC unroll 2
  for (int half = 0; half < 8; half += 4) {
    __m256 rows[4];  // numbers [half, half + 4) of rows i and 4 + i
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m256 low = _mm256_castps128_ps256(_mm_loadu_ps(place(i) + half));
      rows[i] = _mm256_insertf128_ps(low, _mm_loadu_ps(place(i + 4) + half), 1);
    }
    const __m256 even[2] = {_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[0], rows[1])};
    const __m256 odd[2] = {_mm256_unpacklo_ps(rows[2], rows[3]), _mm256_unpackhi_ps(rows[2], rows[3])};
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      columns[half + 2 * i] = _mm256_shuffle_ps(even[i], odd[i], _MM_SHUFFLE(1, 0, 1, 0));
      columns[half + 2 * i + 1] = _mm256_shuffle_ps(even[i], odd[i], _MM_SHUFFLE(3, 2, 3, 2));
    }
  }
}

}  // namespace rotorquant::avx2
