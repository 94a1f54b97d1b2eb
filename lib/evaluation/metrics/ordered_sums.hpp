#pragma once
// The sums of the lanes of several vectors at once, each in the order of its lanes. One vector's sum is a
// chain of additions that wait for one another; transposed, as many vectors as they have lanes share that
// chain.
#include <cstdint>
#include <utility>

#include "evaluation/metrics/lanes.hpp"

namespace rotorquant::evaluation {

namespace ordered_sums_detail {

// Of two rows of a square, `distance` apart: exchanges the lanes that its transpose exchanges between them.
template <int distance, typename Vector, int... lane>
void exchange(Vector& a, Vector& b, std::integer_sequence<int, lane...>) {
  constexpr int lanes = sizeof...(lane);
  const Vector low = __builtin_shufflevector(a, b, ((lane & distance) ? lanes + lane - distance : lane)...);
  b = __builtin_shufflevector(a, b, ((lane & distance) ? lanes + lane : lane + distance)...);
  a = low;
}

template <int distance, typename Vector, int lanes>
void exchange_rows(Vector (&square)[lanes]) {
  if constexpr (distance < lanes) {
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) {
      if ((i & distance) == 0)
        exchange<distance>(square[i], square[i + distance], std::make_integer_sequence<int, lanes>());
    }
    exchange_rows<2 * distance>(square);
  }
}

}  // namespace ordered_sums_detail

#if defined(__AVX512F__)
// Lane i of the result is the sum of the lanes of vectors[i], from 0 on in their order. Vector: Lanes or
// FloatLanes, as many of them as they have lanes; what they hold is used up.
template <typename Vector, int lanes>
Vector ordered_sums(Vector (&vectors)[lanes]) {
  static_assert(sizeof(Vector) == lanes * sizeof(vectors[0][0]));
  ordered_sums_detail::exchange_rows<1>(vectors);
  Vector sums = {};
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) sums += vectors[i];
  return sums;
}
#else
// The same of pairs, by squares of half as many lanes: first the lower halves' lanes, then the upper ones'.
template <typename Number, int lanes>
RegisterPair<Number> ordered_sums(RegisterPair<Number> (&vectors)[lanes]) {
  constexpr int half = lanes / 2;
  static_assert(half == RegisterPair<Number>::half_count);
  using Half = typename RegisterPair<Number>::Half;
  const auto add = [&](int first, auto part, Half& sums) {
    Half square[half];
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) square[i] = vectors[first + i].*part;
    ordered_sums_detail::exchange_rows<1>(square);
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) sums += square[i];
  };
  RegisterPair<Number> sums = {};
  add(0, &RegisterPair<Number>::low, sums.low);
  add(0, &RegisterPair<Number>::high, sums.low);
  add(half, &RegisterPair<Number>::low, sums.high);
  add(half, &RegisterPair<Number>::high, sums.high);
  return sums;
}
#endif

}  // namespace rotorquant::evaluation
