#pragma once
// Which centroid is nearest to each of a block of keys, and how far it is, as far as products of 16-bit
// integers tell, whose error is bounded: what they leave open is for float64 (centroid_search.hpp). With AVX2
// and AVX-512. Internal to lib/rotorquant/quantizers.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/core/isa.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"

namespace rotorquant {

// Keys as integers u of a grid, x_i ~ step (u_i + origin_i): what the search multiplies. A key with a
// coordinate off the grid has no integers.
struct KeyGrid {
  // Of u_i + reach, 0 .. 2 reach - 1, as the lowest bits of the float x_i inverse_step + addends[i].
  std::int32_t reach = 0;      // a power of two
  float inverse_step = 0.0F;   // one, too
  std::vector<float> addends;  // [whole registers of 32 coordinates]; 2^23 beyond the last
  // Words of two such numbers: of coordinates 32 k + i and 32 k + 16 + i, i < 16, in word 16 k + i.
  std::int64_t words() const { return static_cast<std::int64_t>(addends.size()) / 2; }
  bool usable() const { return reach > 0; }
  // What no coordinate of a key on the grid exceeds.
  double largest() const;
};

// What is known of each key of a block before float64 is asked.
struct alignas(64) CentroidEstimates {
  // Bit k: centroid k may be the nearest.
  std::array<std::uint32_t, cascade_lanes> candidates;
  std::array<std::int32_t, cascade_lanes> nearest;
  std::array<float, cascade_lanes> least, most;
  // Keys with one candidate: it is `nearest`, at a squared_distance(x - h, c) between the bounds.
  std::uint32_t decided = 0;
};

class CentroidGrid {
 public:
  // centroids [count, dim], shift h [dim]; `reach` is what a coordinate of x - h - c of a key on the grid may
  // be.
  CentroidGrid(std::span<const float> centroids, std::span<const float> shift, double reach);

  // The grid of the keys that estimate() takes; not usable with centroids that do not suit it, or too many.
  const KeyGrid& keys() const { return grid_; }
  // Whether there are kernels that estimate: for AVX2, and for AVX-512 with vnni_supported().
  static bool estimates_with(Isa isa);
  // Of keys on the grid, words [2, keys().words(), 16]: sixteen keys after sixteen. Where estimates_with().
  void estimate(Isa isa, const std::int32_t* words, CentroidEstimates& found) const;

  static constexpr std::int64_t together = 32;  // centroids that estimate() tells apart

 private:
  void estimate_avx2(const std::int32_t* words, CentroidEstimates& found) const;
  void estimate_avx512(const std::int32_t* words, CentroidEstimates& found) const;

  // Of the distances that decide, relative to the squared sum of the norms of what they are made of, and of
  // the float32 sums of estimate(): some roundings of 2^-24 each.
  static constexpr float rounding_share = 1e-6F;
  // What rounds its bounds themselves up.
  static constexpr float raised = 1.001F;

  std::int64_t dim_ = 0;
  std::int64_t count_ = 0;
  KeyGrid grid_;
  // Of g = c + h - step origin ~ grain i, i integers; arrays of `together`, from `count` on never the best.
  std::vector<std::int32_t> integers_;  // [grid words, together]
  std::vector<std::int32_t> starts_;    // what <u + reach, i> is added to: the greatest sum is the nearest
  std::vector<std::int32_t> moves_;     // that sum less <u, i>
  std::vector<float> squares_;          // ||g||^2
  struct {
    float step = 0.0F;
    float grain = 0.0F;
    float key = 0.0F;         // ||x - step (u + origin)||, no less
    float integers = 0.0F;    // ||i||, no less
    float centroid = 0.0F;    // ||g - grain i||, no less
    float centroids = 0.0F;   // ||g||, no less
    float magnitudes = 0.0F;  // ||step origin|| + 2 ||h|| + ||c||, no less
  } bounds_;
};

}  // namespace rotorquant
