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

// scores [count], count >= 1, no NaN; Score is float or double.
template <typename Score>
TopKeys top_keys(const Score* scores, std::int64_t count);

// top_keys(scores, count) of scores in float32, given those of the same scores before they were rounded.
TopKeys rounded_top_keys(const float* scores, std::int64_t count, const TopKeys& exact);

// What another row of scores over the same keys selects of `top`.
struct TopOverlap {
  bool first = false;       // its largest is top's largest
  std::int32_t common = 0;  // keys of both selections
};

// The overlap of `top` with top_keys(scores, count), which is not formed: the rank of each of the eight keys
// is counted (top_ranks.hpp).
TopOverlap top_overlap(const double* scores, std::int64_t count, const TopKeys& top);

}  // namespace rotorquant::evaluation
