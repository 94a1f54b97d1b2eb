#pragma once
// The inner loops of calibrated encoders: distances to centroids; the levels nearest to a residual whose
// coordinates have levels of mixed widths, and what their errors cost. level_search.cpp defines the results;
// the files named after instruction sets give the same bits. Internal to lib/rotorquant/quantizers.
#include <array>
#include <cstdint>
#include <vector>

#include "rotorquant/codes/mixed_planes.hpp"
#include "rotorquant/codes/plane_codebook.hpp"
#include "rotorquant/core/isa.hpp"

namespace rotorquant {

// The Lloyd-Max levels of N(0, 1) of one width.
class NormalLevels {
 public:
  explicit NormalLevels(int width);  // 0..8
  // The number of boundaries strictly below y, in about one comparison.
  std::uint8_t index_of(float y) const;
  float operator[](std::uint8_t index) const { return levels_[index]; }
  const float* levels() const { return levels_.data(); }
  // The boundaries as a binary search meets them: [1] the middle one, [2 i] and [2 i + 1] those of the lower
  // and the upper half; [max(16, 2^width)], as are the levels.
  const float* tree() const { return tree_.data(); }
  // Of 2 to 4 bits.
  const PlaneCodebook& registers() const { return registers_; }

 private:
  std::vector<float> levels_;  // [max(16, 2^width)]
  std::vector<float> tree_;    // [max(16, 2^width)]
  PlaneCodebook registers_;
  std::vector<float> boundaries_;     // [2^width - 1], then +infinity
  std::vector<std::uint8_t> starts_;  // boundaries surely below each cell of a uniform grid
};

// Coordinates in storage order (mixed_planes.hpp): those of width 8 first, those without bits last.
struct LevelSearch {
  std::int64_t dim = 0;
  std::array<std::int64_t, max_width + 1>
      ends{};                            // [w]: one past the last coordinate of at least w bits; [0]: dim
  const NormalLevels* levels = nullptr;  // [9], by width
  const float* diagonal = nullptr;       // [dim], what a squared error costs

  // for_widths() of mixed_planes.hpp, of all coordinates with bits.
  template <typename Body>
  void for_widths(const Body& body) const {
    rotorquant::for_widths(
        0, ends[1], [this](int width) { return ends[static_cast<std::size_t>(width)]; }, body);
  }
};

// symbols [dim] of the coordinates with bits: the index of y / scale among the levels.
void search_levels(Isa isa, const LevelSearch& search, const float* y, float scale, std::uint8_t* symbols);

// costs(v) of the symbols of y(., v) = columns(., v) - less, columns [dim, cascade_lanes] on whole cache
// lines, at scales [cascade_lanes]: the sum over coordinates in order of (diagonal error) error, error = y -
// scale level, 0 for the level of coordinates without bits; all in float32, a product and the sum it goes
// into rounded once. `less` [dim], or null for zeros.
void level_costs(Isa isa, const LevelSearch& search, const float* columns, const float* less,
                 const float* scales, float* costs);

struct DescentProblem {
  const LevelSearch& search;
  const float* metric;  // [dim, dim], its diagonal search.diagonal
  float scale;
};
// One sweep of coordinate descent of error^T metric error: each coordinate with bits, in order, moves to the
// level nearest to the minimum over its own real value, given all other errors. gradient [dim] is metric
// error and kept so; symbols [dim]. Whether any of them changed.
bool descend_once(Isa isa, const DescentProblem& problem, float* gradient, std::uint8_t* symbols);

// ||x - y + offset||^2 of vectors of `count` coordinates, `offset` null for none: differences rounded to
// float32, their squares added in float64 in dot_product.hpp's order.
double squared_distance(Isa isa, const float* x, const float* y, const float* offset, std::int64_t count);

// The same with instruction sets.
using SearchLevels = void(const LevelSearch& search, const float* y, float scale, std::uint8_t* symbols);
using LevelCosts = void(const LevelSearch& search, const float* columns, const float* less,
                        const float* scales, float* costs);
using DescendOnce = bool(const DescentProblem& problem, float* gradient, std::uint8_t* symbols);
using SquaredDistance = double(const float* x, const float* y, const float* offset, std::int64_t count);
SearchLevels search_levels_avx2, search_levels_avx512;
LevelCosts level_costs_avx2, level_costs_avx512;
DescendOnce descend_once_avx2, descend_once_avx512;
SquaredDistance squared_distance_avx2, squared_distance_avx512;

}  // namespace rotorquant
