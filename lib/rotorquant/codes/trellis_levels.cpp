#include "rotorquant/codes/trellis_levels.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <string>

#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

constexpr int max_cells = 4096;
// Boundaries this near to a cell's edge (in cells) count for both neighbours, since cell() rounds in float32:
// its error is below cells * 2^-23 * 2 < 0.001 cells.
constexpr double edge_margin = 0.01;

std::vector<float> table_values(const TrellisTable& table) {
  std::vector<float> values;
  values.reserve(table.levels.size());
  for (const std::int16_t level : table.levels) {
    values.push_back(static_cast<float>(level) / static_cast<float>(table.scale));
  }
  return values;
}

struct Level {
  float value;
  std::uint8_t u;
};

// The distinct levels of one r in ascending order; of equal ones the first u.
std::vector<Level> sorted_levels(std::span<const float> values, std::size_t stride, std::size_t r) {
  std::vector<Level> levels;
  for (std::size_t u = 0; u * stride < values.size(); ++u) {
    levels.push_back({values[u * stride + r], static_cast<std::uint8_t>(u)});
  }
  std::ranges::stable_sort(levels, {}, &Level::value);
  const auto last = std::unique(levels.begin(), levels.end(),
                                [](const Level& a, const Level& b) { return a.value == b.value; });
  levels.erase(last, levels.end());
  return levels;
}

double midpoint(const Level& a, const Level& b) {
  return 0.5 * (static_cast<double>(a.value) + static_cast<double>(b.value));
}

}  // namespace

TrellisLevels::TrellisLevels(int memory, int width, std::span<const float> values)
    : memory_(memory), width_(width), values_(values.begin(), values.end()) {
  if (memory != 3 && memory != 5) {
    throw Error("trellis memory " + std::to_string(memory) + " is not supported; valid: 3, 5");
  }
  if (width < 1 || width > max_trellis_width) {
    throw Error("trellis symbol width " + std::to_string(width) + " is not supported; valid: 1..8");
  }
  if (values.size() != std::size_t{1} << (width + memory)) {
    throw Error("a trellis table of memory " + std::to_string(memory) + " and width " +
                std::to_string(width) + " has " + std::to_string(std::size_t{1} << (width + memory)) +
                " levels, not " + std::to_string(values.size()));
  }
  for (const float value : values) {
    if (!std::isfinite(value)) throw Error("a trellis table holds a level that is not finite");
  }
  const std::size_t stride = std::size_t{2} << memory;
  double low = HUGE_VAL;
  double high = -HUGE_VAL;
  for (std::size_t r = 0; r < stride; ++r) {
    const std::vector<Level> levels = sorted_levels(values_, stride, r);
    for (std::size_t i = 0; i + 1 < levels.size(); ++i) {
      low = std::min(low, midpoint(levels[i], levels[i + 1]));
      high = std::max(high, midpoint(levels[i], levels[i + 1]));
    }
  }
  if (low > high) low = high = 0.0;  // no boundary at all: one cell
  for (int cells = 1; cells <= max_cells; cells *= 2) {
    if (build(cells, low, high)) return;
  }
  throw Error("two levels of one state of a trellis table (memory " + std::to_string(memory) + ", width " +
              std::to_string(width) + ") are too near to each other; valid: at least " +
              std::to_string(2.1 * (high - low) / max_cells) + " apart");
}

TrellisLevels::TrellisLevels(const TrellisTable& table)
    : TrellisLevels(table.memory, table.width, table_values(table)) {}

// Fills the rows for that many cells over [low, high]; false when two boundaries of one r meet in a cell.
bool TrellisLevels::build(int cells, double low, double high) {
  const std::size_t stride = std::size_t{2} << memory_;
  const double cell_width = high > low ? (high - low) / cells : 1.0;
  cells_ = {static_cast<float>(low), static_cast<float>(1.0 / cell_width), static_cast<float>(cells - 1)};
  rows_.assign(static_cast<std::size_t>(cells) * 2 * stride * sizeof(float) / sizeof(CacheLine), {});
  auto* const rows = reinterpret_cast<float*>(rows_.data());
  choices_.assign(static_cast<std::size_t>(cells) * 2 * stride, 0);
  for (std::size_t r = 0; r < stride; ++r) {
    const std::vector<Level> levels = sorted_levels(values_, stride, r);
    std::size_t first = 0;  // first boundary (between levels first and first + 1) not below the cell
    for (int c = 0; c < cells; ++c) {
      const double left = c == 0 ? -HUGE_VAL : low + (c - edge_margin) * cell_width;
      const double right = c == cells - 1 ? HUGE_VAL : low + (c + 1 + edge_margin) * cell_width;
      while (first + 1 < levels.size() && midpoint(levels[first], levels[first + 1]) < left) ++first;
      std::size_t last = first;
      while (last + 1 < levels.size() && midpoint(levels[last], levels[last + 1]) <= right) ++last;
      if (last > first + 1) return false;
      const Level& lower = levels[first];
      const Level& upper = levels[last];
      float* midpoints = rows + static_cast<std::size_t>(c) * 2 * stride;
      midpoints[r] = static_cast<float>(midpoint(lower, upper));
      midpoints[stride + r] =
          static_cast<float>(0.5 * (static_cast<double>(upper.value) - static_cast<double>(lower.value)));
      std::uint8_t* choice = choices_.data() + static_cast<std::size_t>(c) * 2 * stride;
      choice[r] = lower.u;
      choice[stride + r] = upper.u;
    }
  }
  return true;
}

TrellisCodebook::TrellisCodebook(std::vector<TrellisLevels> levels) : levels_(std::move(levels)) {
  if (levels_.empty()) throw Error("a trellis codebook needs at least one table");
  memory_ = levels_.front().memory();
  std::ranges::sort(levels_, {}, &TrellisLevels::width);
  for (std::size_t i = 0; i < levels_.size(); ++i) {
    if (levels_[i].memory() != memory_)
      throw Error("the tables of a trellis codebook have different memories");
    if (i > 0 && levels_[i].width() == levels_[i - 1].width()) {
      throw Error("a trellis codebook has two tables of width " + std::to_string(levels_[i].width()));
    }
  }
}

std::shared_ptr<const TrellisCodebook> TrellisCodebook::shipped(int memory) {
  static std::mutex mutex;
  static std::map<int, std::shared_ptr<const TrellisCodebook>> codebooks;
  const std::lock_guard lock(mutex);
  auto& codebook = codebooks[memory];
  if (codebook == nullptr) {
    std::vector<TrellisLevels> levels;
    for (const TrellisTable& table : trellis_tables()) {
      if (table.memory == memory) levels.emplace_back(table);
    }
    if (levels.empty())
      static_cast<void>(trellis_table(memory, 1));  // throws with the list of supported memories
    codebook = std::make_shared<const TrellisCodebook>(std::move(levels));
  }
  return codebook;
}

const TrellisLevels& TrellisCodebook::levels(int width) const {
  for (const TrellisLevels& levels : levels_) {
    if (levels.width() == width) return levels;
  }
  throw Error("the trellis codebook of memory " + std::to_string(memory_) + " has no table of width " +
              std::to_string(width) + "; widest: " + std::to_string(levels_.back().width()));
}

}  // namespace rotorquant
