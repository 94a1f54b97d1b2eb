#pragma once
// The keys a query attends to most: the eight largest scores of a row, equal scores ordered by index.
#include <array>
#include <cstdint>

namespace rotorquant::evaluation {

inline constexpr std::int64_t top_key_count = 8;

struct TopKeys {
  std::array<std::int32_t, top_key_count> index{};  // by descending score, then ascending index
  std::int32_t count = 0;                           // min(top_key_count, scores of the row)
};

// scores [count], count >= 1, no NaN.
TopKeys top_keys(const double* scores, std::int64_t count);

// |A ∩ B| of two selections.
std::int32_t common_keys(const TopKeys& a, const TopKeys& b);

}  // namespace rotorquant::evaluation
