#pragma once
// What OffsetTables hold for sixteen keys at a time. Internal to lib/rotorquant/quantizers.
#include "rotorquant/core/avx512.hpp"
#include "rotorquant/quantizers/calibrated_columns.hpp"

namespace rotorquant::avx512 {

// Of a coordinate's table; in_registers: of a table of OffsetTables::registers_hold.
template <bool in_registers>
ROTORQUANT_AVX512_INLINE __m512 offset(const float* table, __m512i centroids) {
  if constexpr (in_registers)
    return _mm512_permutex2var_ps(_mm512_loadu_ps(table), centroids, _mm512_loadu_ps(table + lanes));
  return _mm512_i32gather_ps(centroids, table, sizeof(float));
}

ROTORQUANT_AVX512_INLINE __m512 offset(const OffsetTables& offsets, __m512i centroids,
                                       std::int64_t coordinate) {
  const float* table = offsets.of(coordinate);
  return offsets.in_registers() ? offset<true>(table, centroids) : offset<false>(table, centroids);
}

}  // namespace rotorquant::avx512
