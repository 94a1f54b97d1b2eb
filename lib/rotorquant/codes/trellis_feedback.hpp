#pragma once
// The search of a trellis code under a full quadratic metric,
//   minimise (y - s v)^T H (y - s v)  over the values v of symbols,
// by a Viterbi recursion in which every survivor feeds its own errors forward (per-survivor processing,
// Raheli et al., IEEE Trans. Comm. 1995; one trellis step of LDLQ, Chee et al., QuIP, arXiv 2307.13304).
//
// With H = L^T D L over the used coordinates in index order, L unit lower triangular and D diagonal,
//   e^T H e = sum_t D_t (e_t + f_t)^2,   f_t = sum_{j<t} L_tj e_j,
// so that a step's cost is exact given the path so far, later coordinates being free to make up for it.
// Coordinates without bits keep the error y; they enter f from the start.
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/codes/trellis.hpp"

namespace rotorquant {

class TrellisFeedback {
 public:
  struct Workspace {
    std::vector<float> feedback;               // [used, states] f of each survivor
    std::vector<float> targets;                // [used] y
    std::vector<float> initial;                // [used] f before the first step
    std::vector<const TrellisLevels*> levels;  // [used]
    std::vector<std::uint8_t> choices;         // [used, 2 states] u by r
    std::vector<std::uint32_t> survivors;      // [used]
  };

  // metric [dim, dim] in index order, symmetric positive definite. `code` gives widths and levels.
  TrellisFeedback(const TrellisCode& code, std::span<const float> metric);

  // y [dim] in index order, scale > 0; seam: the register before the first used coordinate, where the path
  // starts and ends. symbols [dim], in index order.
  void encode(const TrellisCode& code, const float* y, float scale, unsigned seam, std::uint8_t* symbols,
              Workspace& workspace) const;

  // What a step's cost goes by, for other implementations.
  std::span<const float> weights() const { return weights_; }                  // [used] D
  std::span<const float> factors() const { return factors_; }                  // [used, used]: [j, t] L_tj
  std::span<const float> initial_factors() const { return initial_factors_; }  // [unused, used]

 private:
  std::vector<std::uint16_t> used_;     // coordinates with bits
  std::vector<std::uint16_t> unused_;   // the others
  std::vector<float> weights_;          // [used] D
  std::vector<float> factors_;          // [used, used] column by column: factors_[j, t] = L_tj
  std::vector<float> initial_factors_;  // [unused, used]: f before the first step of an error of 1
};

}  // namespace rotorquant
