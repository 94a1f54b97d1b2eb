#pragma once
// Training of trellis codebooks (trellis_tables.hpp): Lloyd's algorithm with the Viterbi encoder in place of
// the nearest level.
//
// Start: N(0, 1) is cut into 2^w strata of equal probability, one for each value s of a symbol; stratum s has
// 2^M quantiles (spread out a little at high widths), dealt to the 2^M registers by a permutation: every
// register sees a whole scalar quantizer, each another one. Which permutation matters (2% in distortion
// between random ones): `starts` random ones are tried for a few rounds on an eighth of the vectors, and the
// best goes on. Even starts use one permutation for all strata (registers are shifts of one quantizer, the
// better choice from w = 2 on), odd ones one for each stratum (the better choice at w = 1). Round: encode
// `vectors` vectors of 64 N(0, 1) coordinates, tail-biting, and replace each level by the mean of the
// coordinates that chose it. Last, levels are rounded to their stored form, and rounds with rounded means go
// on from there while they lower the distortion. Deterministic: every vector has its own random stream, and
// sums are made in order of the vectors.
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/core/parallel.hpp"

namespace rotorquant {

inline constexpr int trellis_training_dim = 64;

struct TrellisTraining {
  int memory = 5;
  int width = 1;
  std::int64_t vectors = 20000;
  int rounds = 25;
  int starts = 1;
  std::uint64_t seed = 0;  // of the permutations and of the training vectors
};

// The stored levels [2^(width + memory)], in units of 1 / trellis_level_scale(width).
std::vector<std::int16_t> train_trellis(const Context& context, const TrellisTraining& training);

// Mean squared error per coordinate of stored levels on `vectors` vectors of 64 N(0, 1) coordinates,
// tail-biting. Its vectors never coincide with training vectors, whatever the seeds.
double measure_trellis_mse(const Context& context, int memory, int width,
                           std::span<const std::int16_t> levels, std::int64_t vectors, std::uint64_t seed);

}  // namespace rotorquant
