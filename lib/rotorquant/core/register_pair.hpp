#pragma once
// 64 bytes of numbers with one operation on all of them, for loops that are written once: a vector of the
// compiler's where there are registers of 512 bits, else a pair of vectors of 256 bits. Compilers take a
// vector that no register holds apart into numbers as soon as they are compared, chosen or permuted.
#include <cstdint>
#include <type_traits>

#include "rotorquant/core/vector_functions.hpp"

namespace rotorquant {

template <typename Number>
struct RegisterPair {
  typedef Number Half __attribute__((vector_size(32)));  // NOLINT: `using` takes no attribute of such a type
  static constexpr std::int64_t half_count = 32 / static_cast<std::int64_t>(sizeof(Number));

  Half low;
  Half high;

  Number operator[](std::int64_t lane) const {
    return lane < half_count ? low[lane] : high[lane - half_count];
  }

  RegisterPair operator-() const { return {-low, -high}; }
  RegisterPair& operator+=(const RegisterPair& other) {
    low += other.low;
    high += other.high;
    return *this;
  }
  RegisterPair& operator-=(const RegisterPair& other) {
    low -= other.low;
    high -= other.high;
    return *this;
  }
};

// What a comparison gives: -1 where it holds, else 0.
template <typename Number>
using MatchesOf = RegisterPair<std::conditional_t<sizeof(Number) == 8, long long, std::int32_t>>;

#define ROTORQUANT_PAIR_OPERATOR(op, Result)                                                        \
  template <typename Number>                                                                        \
  inline Result operator op(const RegisterPair<Number>& a, const RegisterPair<Number>& b) {         \
    return {a.low op b.low, a.high op b.high};                                                      \
  }                                                                                                 \
  template <typename Number>                                                                        \
  inline Result operator op(const RegisterPair<Number>& a, const std::type_identity_t<Number>& b) { \
    return {a.low op b, a.high op b};                                                               \
  }                                                                                                 \
  template <typename Number>                                                                        \
  inline Result operator op(const std::type_identity_t<Number>& a, const RegisterPair<Number>& b) { \
    return {a op b.low, a op b.high};                                                               \
  }
ROTORQUANT_PAIR_OPERATOR(+, RegisterPair<Number>)
ROTORQUANT_PAIR_OPERATOR(-, RegisterPair<Number>)
ROTORQUANT_PAIR_OPERATOR(*, RegisterPair<Number>)
ROTORQUANT_PAIR_OPERATOR(&, RegisterPair<Number>)
ROTORQUANT_PAIR_OPERATOR(|, RegisterPair<Number>)
ROTORQUANT_PAIR_OPERATOR(<<, RegisterPair<Number>)
ROTORQUANT_PAIR_OPERATOR(<, MatchesOf<Number>)
ROTORQUANT_PAIR_OPERATOR(>, MatchesOf<Number>)
ROTORQUANT_PAIR_OPERATOR(>=, MatchesOf<Number>)
ROTORQUANT_PAIR_OPERATOR(==, MatchesOf<Number>)
#undef ROTORQUANT_PAIR_OPERATOR

// Half by half: copied as a whole, a pair passes through memory.
template <typename To, typename Number>
inline To same_bits(const RegisterPair<Number>& x) {
  using Half = typename To::Half;
  return {same_bits<Half>(x.low), same_bits<Half>(x.high)};
}

template <typename Match, typename Number>
inline RegisterPair<Number> choose(const RegisterPair<Match>& condition, const RegisterPair<Number>& yes,
                                   const RegisterPair<Number>& no) {
  return {condition.low ? yes.low : no.low, condition.high ? yes.high : no.high};
}

#if defined(__AVX512F__)
template <typename Number>
struct RegisterOf {
  typedef Number type __attribute__((vector_size(64)));  // NOLINT
};
#else
template <typename Number>
struct RegisterOf {
  using type = RegisterPair<Number>;
};
#endif
// 64 bytes of numbers.
template <typename Number>
using Lanes64 = typename RegisterOf<Number>::type;

// The numbers at x, and back.
template <typename Number>
inline Lanes64<Number> load_lanes(const Number* x) {
#if defined(__AVX512F__)
  Lanes64<Number> lanes;
  std::memcpy(&lanes, x, sizeof(lanes));
#else
  Lanes64<Number> lanes;
  typename Lanes64<Number>::Half half;
  std::memcpy(&half, x, sizeof(half));
  lanes.low = half;
  std::memcpy(&half, x + lanes.half_count, sizeof(half));
  lanes.high = half;
#endif
  return lanes;
}
template <typename Number>
inline void store_lanes(Number* x, const std::type_identity_t<Lanes64<Number>>& lanes) {
#if defined(__AVX512F__)
  std::memcpy(x, &lanes, sizeof(lanes));
#else
  typename Lanes64<Number>::Half half = lanes.low;
  std::memcpy(x, &half, sizeof(half));
  half = lanes.high;
  std::memcpy(x + lanes.half_count, &half, sizeof(half));
#endif
}

// The largest vector that is one register.
#if defined(__AVX512F__)
inline constexpr std::int64_t register_bytes = 64;
#else
inline constexpr std::int64_t register_bytes = 32;
#endif
template <typename Number>
struct RegisterVectorOf {
  typedef Number type __attribute__((vector_size(register_bytes)));  // NOLINT
};
template <typename Number>
using RegisterVector = typename RegisterVectorOf<Number>::type;

}  // namespace rotorquant
