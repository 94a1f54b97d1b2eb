#pragma once
// The levels of one trellis table arranged for the search: for any y and every r, the nearest of the 2^(w-1)
// levels T[u, r] over u, in a number of operations that does not depend on the width w.
//
// The line is cut into equal cells, so narrow that for each r at most one boundary between neighbouring
// levels lies in a cell. In a cell only two levels, lo <= hi, can then be nearest, and with midpoint m = (lo
// + hi) / 2, half h = (hi - lo) / 2
//   min_u |y - T[u, r]| = | |y - m| - h |,   u = (y > m ? hi's : lo's).
// Where no boundary lies in the cell, lo = hi.
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "rotorquant/codebooks/trellis_tables.hpp"

namespace rotorquant {

class TrellisLevels {
 public:
  // values [2^(width + memory)], index u * 2^(memory+1) + r. Finite. Error when two levels of one r are
  // nearer than the finest cells can tell apart.
  TrellisLevels(int memory, int width, std::span<const float> values);
  explicit TrellisLevels(const TrellisTable& table);

  int memory() const { return memory_; }
  int width() const { return width_; }
  std::span<const float> values() const { return values_; }

  // Where the cells lie; `last` is a whole number.
  struct Cells {
    float origin, per_unit, last;
  };
  Cells cells() const { return cells_; }

  // The cell of y; a NaN falls into cell 0.
  int cell(float y) const {
    const float position = (y - cells_.origin) * cells_.per_unit;
    const float above = position > 0.0F ? position : 0.0F;
    return static_cast<int>(above < cells_.last ? above : cells_.last);
  }
  // [2, 2^(memory+1)]: midpoints, then halves; 64-byte aligned.
  const float* row(int cell) const {
    return reinterpret_cast<const float*>(rows_.data()) + (static_cast<std::size_t>(cell) << (memory_ + 2));
  }
  // [2, 2^(memory+1)]: u of the lower level, then of the upper.
  const std::uint8_t* choices(int cell) const {
    return choices_.data() + (static_cast<std::size_t>(cell) << (memory_ + 2));
  }

 private:
  struct alignas(64) CacheLine {
    float values[16];
  };

  bool build(int cells, double low, double high);

  int memory_;
  int width_;
  std::vector<float> values_;
  Cells cells_{};
  std::vector<CacheLine> rows_;        // [cells, 2, 2^(memory+1)]
  std::vector<std::uint8_t> choices_;  // [cells, 2, 2^(memory+1)]
};

// The levels of one memory, by width. Immutable; shared by every code that uses them.
class TrellisCodebook {
 public:
  // At least one table; all of the same memory, each width once.
  explicit TrellisCodebook(std::vector<TrellisLevels> levels);

  // The shipped tables of that memory, arranged once per process.
  static std::shared_ptr<const TrellisCodebook> shipped(int memory);

  int memory() const { return memory_; }
  // Error when the codebook has no table of that width.
  const TrellisLevels& levels(int width) const;

 private:
  int memory_;
  std::vector<TrellisLevels> levels_;
};

}  // namespace rotorquant
