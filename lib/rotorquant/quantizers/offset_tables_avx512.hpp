#pragma once
// What OffsetTables hold for sixteen keys at a time. Internal to lib/rotorquant/quantizers.
#include "rotorquant/core/avx512.hpp"
#include "rotorquant/quantizers/calibrated_columns.hpp"

namespace rotorquant::avx512 {

ROTORQUANT_AVX512_INLINE __m512 offset(const OffsetTables& offsets, __m512i centroids,
                                       std::int64_t coordinate) {
  const float* table = offsets.of(coordinate);
  if (offsets.stride() > OffsetTables::registers_hold)
    return _mm512_i32gather_ps(centroids, table, sizeof(float));
  return _mm512_permutex2var_ps(_mm512_loadu_ps(table), centroids, _mm512_loadu_ps(table + lanes));
}

}  // namespace rotorquant::avx512
