#pragma once
// The levels of calibrated keys as their decoder looks them up (calibrated_columns.hpp), and where it finds
// their symbols. Internal to lib/rotorquant/quantizers.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/codes/mixed_planes.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"
#include "rotorquant/quantizers/level_search.hpp"

namespace rotorquant {

// Where a code holds the bits that 32 positions have in one plane: from a bit of a word on.
struct PlanePiece {
  std::int32_t word, bit;
  std::int32_t rest;  // 32 - bit
  std::uint32_t own;  // bits of the piece that are the positions'
};

// Where a position's symbol is, once the planes of its block are joined: from a bit of a word on.
struct SymbolPlace {
  std::int32_t word = 0, bit = 0;
};

// One of a cascade's first steps, on three positions of at most 16 levels; in the order of its slots.
struct alignas(64) LevelStep {
  std::array<std::array<float, 16>, 3> levels;
  CascadeStep step;
  std::array<SymbolPlace, 3> symbols;
};

// A position that none of them takes.
struct LonePosition {
  std::int32_t position;
  int width;
  SymbolPlace symbol;
};

// The levels of each storage position, times what the cascade wants its input multiplied by, and the
// cascade's first steps.
class LevelTables {
 public:
  static constexpr std::int64_t together = 32;  // positions of a block

  // levels [9], by width. program: what takes levels to keys; first: its stage of that name. Its
  // slots and `first` must outlive the tables.
  LevelTables(const MixedPlanes& planes, std::span<const NormalLevels> levels, const CascadeProgram& program,
              std::span<const CascadeStep> first);
  LevelTables(const LevelTables&) = delete;  // tables_ points into values_
  LevelTables& operator=(const LevelTables&) = delete;

  std::int64_t dim() const { return std::ssize(slots_); }
  // Of one position: as many as its block's widest has, 16 or more.
  const float* of(std::int64_t position) const { return tables_[static_cast<std::size_t>(position)]; }
  // The column that a position's levels go to.
  std::int32_t slot(std::int64_t position) const { return slots_[static_cast<std::size_t>(position)]; }
  SymbolPlace symbol(std::int64_t position) const { return symbols_[static_cast<std::size_t>(position)]; }
  std::span<const CascadeStep> first_steps() const { return first_steps_; }
  std::int64_t blocks() const { return std::ssize(widths_); }
  // Of the block's widest position.
  int width(std::int64_t block) const { return widths_[static_cast<std::size_t>(block)]; }
  const PlanePiece* pieces(std::int64_t block) const { return pieces_.data() + block * max_width; }
  // Of a block's joined symbols, by its width: the bits of each, and the words they take.
  static constexpr int symbol_bits(int width) { return width <= 4 ? 4 : 8; }
  std::int64_t symbol_words() const { return symbol_words_; }
  // The first steps; those on a position of more levels are wide.
  std::span<const LevelStep> level_steps() const { return level_steps_; }
  std::span<const CascadeStep> wide_steps() const { return wide_steps_; }
  std::span<const LonePosition> lone_positions() const { return lone_positions_; }

 private:
  // widths [dim].
  void assign_steps(std::span<const int> widths);

  std::span<const std::int32_t> slots_;  // [dim]
  std::span<const CascadeStep> first_steps_;
  std::vector<float> values_;
  std::vector<const float*> tables_;  // [dim]
  std::vector<int> widths_;           // [blocks]
  std::vector<PlanePiece> pieces_;    // [blocks, max_width]
  std::vector<SymbolPlace> symbols_;  // [dim]
  std::int64_t symbol_words_ = 0;
  std::vector<LevelStep> level_steps_;
  std::vector<CascadeStep> wide_steps_;
  std::vector<LonePosition> lone_positions_;
};

}  // namespace rotorquant
