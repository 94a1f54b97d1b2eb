#include "rotorquant/quantizers/level_search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"

namespace rotorquant {
namespace {

// The grid of NormalLevels: the outermost level of 8 bits lies at 4.6.
constexpr float grid_reach = 5.0F;
constexpr int grid_cells = 1024;

constexpr std::size_t smallest_table = 16;  // lanes of the widest register

}  // namespace

NormalLevels::NormalLevels(int width) {
  if (width == 0) {
    levels_ = {0.0F};
  } else {
    for (const double level : lloyd_max_normal_levels(width)) levels_.push_back(static_cast<float>(level));
    for (std::size_t i = 0; i + 1 < levels_.size(); ++i)
      boundaries_.push_back(0.5F * (levels_[i] + levels_[i + 1]));
  }
  const std::size_t count = levels_.size();
  levels_.resize(std::max(smallest_table, count));
  tree_.resize(levels_.size());
  for (std::size_t of_level = 1; of_level < count; of_level *= 2) {
    const std::size_t spacing = count / of_level;
    for (std::size_t i = 0; i < of_level; ++i)
      tree_[of_level + i] = boundaries_[i * spacing + spacing / 2 - 1];
  }
  if (width >= least_plane_codebook_bits && width <= most_plane_codebook_bits) {
    registers_.bits = width;
    std::copy(boundaries_.begin() + static_cast<std::ptrdiff_t>(count / 2), boundaries_.end(),
              registers_.boundaries.begin());
    std::copy_n(levels_.begin(), count, registers_.centroids.begin());
  }
  boundaries_.push_back(std::numeric_limits<float>::infinity());
  starts_.resize(grid_cells);
  for (int cell = 0; cell < grid_cells; ++cell) {
    // One cell of slack, so that rounding in the cell's number cannot start beyond the answer.
    const float edge = (static_cast<float>(cell) - 1.0F) * (2.0F * grid_reach / grid_cells) - grid_reach;
    const auto below =
        cell == 0 ? boundaries_.begin() : std::lower_bound(boundaries_.begin(), boundaries_.end(), edge);
    starts_[static_cast<std::size_t>(cell)] = static_cast<std::uint8_t>(below - boundaries_.begin());
  }
}

std::uint8_t NormalLevels::index_of(float y) const {
  const float cell =
      std::clamp((y + grid_reach) * (grid_cells / (2.0F * grid_reach)), 0.0F, grid_cells - 1.0F);
  std::uint8_t index = starts_[static_cast<std::size_t>(cell)];
  while (boundaries_[index] < y) ++index;
  return index;
}

void search_levels(Isa isa, const LevelSearch& search, const float* y, float scale, std::uint8_t* symbols) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return search_levels_avx512(search, y, scale, symbols);
  if (isa == Isa::avx2) return search_levels_avx2(search, y, scale, symbols);
#endif
  (void)isa;
  const float inverse = 1.0F / scale;
  std::size_t i = 0;
  for (int width = max_width; width > 0; --width) {
    const NormalLevels& levels = search.levels[width];
    const auto end = static_cast<std::size_t>(search.ends[static_cast<std::size_t>(width)]);
    for (; i < end; ++i) symbols[i] = levels.index_of(y[i] * inverse);
  }
}

void level_costs(Isa isa, const LevelSearch& search, const float* columns, const float* less,
                 const float* scales, float* costs) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return level_costs_avx512(search, columns, less, scales, costs);
  if (isa == Isa::avx2) return level_costs_avx2(search, columns, less, scales, costs);
#endif
  (void)isa;
  float inverses[cascade_lanes];
  for (std::int64_t v = 0; v < cascade_lanes; ++v) inverses[v] = 1.0F / scales[v];
  std::fill_n(costs, cascade_lanes, 0.0F);
  std::int64_t i = 0;
  for (int width = max_width; width >= 0; --width) {
    const NormalLevels& levels = search.levels[width];
    for (; i < search.ends[static_cast<std::size_t>(width)]; ++i) {
      for (std::int64_t v = 0; v < cascade_lanes; ++v) {
        float error = columns[i * cascade_lanes + v] - (less == nullptr ? 0.0F : less[i]);
        if (width > 0) error = std::fma(-scales[v], levels[levels.index_of(error * inverses[v])], error);
        costs[v] = std::fma(search.diagonal[i] * error, error, costs[v]);
      }
    }
  }
}

bool descend_once(Isa isa, const DescentProblem& problem, float* gradient, std::uint8_t* symbols) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return descend_once_avx512(problem, gradient, symbols);
  if (isa == Isa::avx2) return descend_once_avx2(problem, gradient, symbols);
#endif
  (void)isa;
  const LevelSearch& search = problem.search;
  const float inverse = 1.0F / problem.scale;
  bool changed = false;
  std::int64_t i = 0;
  for (int width = max_width; width > 0; --width) {
    const NormalLevels& levels = search.levels[width];
    for (; i < search.ends[static_cast<std::size_t>(width)]; ++i) {
      const std::uint8_t old_index = symbols[i];
      const float target = problem.scale * levels[old_index] + gradient[i] / search.diagonal[i];
      const std::uint8_t index = levels.index_of(target * inverse);
      if (index == old_index) continue;
      const float step = problem.scale * (levels[index] - levels[old_index]);
      symbols[i] = index;
      const float* row = problem.metric + i * search.dim;
      for (std::int64_t j = 0; j < search.dim; ++j) gradient[j] -= step * row[j];
      changed = true;
    }
  }
  return changed;
}

double squared_distance(Isa isa, const float* x, const float* y, const float* offset, std::int64_t count) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return squared_distance_avx512(x, y, offset, count);
  if (isa == Isa::avx2) return squared_distance_avx2(x, y, offset, count);
#endif
  (void)isa;
  static thread_local ScratchFloats scratch;
  float* difference = scratch.reserve(count);
  for (std::int64_t i = 0; i < count; ++i) {
    difference[i] = x[i] - y[i];
    if (offset != nullptr) difference[i] += offset[i];
  }
  return squared_norm(difference, count);
}

}  // namespace rotorquant
