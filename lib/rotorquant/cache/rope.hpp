#pragma once
// Rotary position embedding (Su et al., "RoFormer", arXiv 2104.09864): pair j of a head's first rotary_dim
// coordinates is turned by the angle position * inv_freq[j],  (a, b) -> (a cos - b sin, b cos + a sin). Pairs
// are (j, j + rotary_dim / 2) in the layout `half`, (2j, 2j + 1) in `interleaved`. Turning back by the same
// angle recovers keys as they were before RoPE, whatever scheme the frequencies come from.
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/core/view.hpp"

namespace rotorquant {

enum class RopeLayout { half, interleaved };

// The angles of a model. Without frequencies (the default) nothing turns.
struct Rope {
  std::vector<double> inv_freq;  // [rotary_dim / 2], radians a position
  RopeLayout layout = RopeLayout::half;

  std::int64_t rotary_dim() const { return static_cast<std::int64_t>(2 * inv_freq.size()); }
};

// Sines and cosines of one run of positions, shared by all heads of a layer. Angles are reduced in float64.
class RopeTable {
 public:
  RopeTable(const Rope& rope, std::span<const std::int64_t> positions);

  std::int64_t tokens() const { return tokens_; }
  // x [n, dim], dim >= rotary_dim, n tokens from `first_token` of the table on, turned in place.
  void apply(HostView<float> x, std::int64_t first_token = 0) const { turn(x, first_token, 1.0F); }
  // The inverse.
  void remove(HostView<float> x, std::int64_t first_token = 0) const { turn(x, first_token, -1.0F); }

 private:
  void turn(HostView<float> x, std::int64_t first_token, float direction) const;

  RopeLayout layout_;
  std::int64_t tokens_;
  std::int64_t pairs_;
  std::vector<float> cosines_;  // [tokens, pairs]
  std::vector<float> sines_;    // [tokens, pairs]
};

}  // namespace rotorquant
