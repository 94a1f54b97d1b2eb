#pragma once
// Sixteen entries of a table at a time, from registers where one or two hold it. Internal to
// lib/rotorquant/quantizers.
#include <type_traits>

#include "rotorquant/core/avx512.hpp"
#include "rotorquant/quantizers/calibrated_columns.hpp"

namespace rotorquant::avx512 {

// The registers that hold so many entries; 0: too many.
constexpr int registers_of(std::int64_t entries) {
  return entries <= lanes ? 1 : entries <= 2 * lanes ? 2 : 0;
}

// table [registers * 16], of whose indices the bits above are ignored; or of any length, for 0 registers.
template <int registers>
ROTORQUANT_AVX512_INLINE __m512 look_up(const float* table, __m512i index) {
  if constexpr (registers == 1) return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
  if constexpr (registers == 2)
    return _mm512_permutex2var_ps(_mm512_loadu_ps(table), index, _mm512_loadu_ps(table + lanes));
  return _mm512_i32gather_ps(index, table, sizeof(float));
}

// table [max(16, entries)].
ROTORQUANT_AVX512_INLINE __m512 look_up(const float* table, int entries, __m512i index) {
  if (entries <= lanes) return look_up<1>(table, index);
  if (entries == 2 * lanes) return look_up<2>(table, index);
  return look_up<0>(table, index);
}

// body(std::integral_constant<int, registers>{}) with the registers of a coordinate's table.
template <typename Body>
void dispatch_registers(const OffsetTables& offsets, const Body& body) {
  switch (registers_of(offsets.stride())) {
    case 1:
      return body(std::integral_constant<int, 1>{});
    case 2:
      return body(std::integral_constant<int, 2>{});
    default:
      return body(std::integral_constant<int, 0>{});
  }
}

}  // namespace rotorquant::avx512
