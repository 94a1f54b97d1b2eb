#include "rotorquant/quantizers/level_tables.hpp"

#include <algorithm>

namespace rotorquant {
namespace {

constexpr std::size_t smallest_table = 16;  // lanes of the widest register

}  // namespace

LevelTables::LevelTables(const MixedPlanes& planes, std::span<const NormalLevels> levels,
                         const CascadeProgram& program, std::span<const CascadeStep> first)
    : slots_(program.slots), first_steps_(first) {
  std::vector<std::size_t> begins;
  std::vector<int> widths;
  int width = max_width;
  std::size_t length = 0;
  for (std::int64_t k = 0; k < planes.dim(); ++k) {
    while (width > 0 && k >= planes.count_at_least(width)) --width;
    const std::size_t count = std::size_t{1} << width;
    if (k % together == 0) {
      length = std::max(smallest_table, count);
      if (k > 0) symbol_words_ += symbol_bits(widths_.back());
      widths_.push_back(width);
      std::int64_t plane = 0;
      for (int j = 0; j < max_width; ++j) {
        const std::int64_t bits = planes.count_at_least(j + 1);
        const std::int64_t own = std::clamp<std::int64_t>(bits - k, 0, together);
        const auto bit = static_cast<std::int32_t>((plane + k) % 32);
        pieces_.push_back({static_cast<std::int32_t>((plane + k) / 32), bit, 32 - bit,
                           static_cast<std::uint32_t>((std::uint64_t{1} << own) - 1)});
        plane += bits;
      }
    }
    const int bits = symbol_bits(widths_.back());
    const auto place = static_cast<std::int32_t>(k % together);
    symbols_.push_back({static_cast<std::int32_t>(symbol_words_) + place % bits, place / bits * bits});
    widths.push_back(width);
    begins.push_back(values_.size());
    for (std::size_t i = 0; i < count; ++i) {
      values_.push_back(levels[static_cast<std::size_t>(width)][static_cast<std::uint8_t>(i)] *
                        program.scales[static_cast<std::size_t>(k)]);
    }
    values_.resize(begins.back() + length);
  }
  if (!widths_.empty()) symbol_words_ += symbol_bits(widths_.back());
  for (const std::size_t begin : begins) tables_.push_back(values_.data() + begin);
  assign_steps(widths);
}

void LevelTables::assign_steps(std::span<const int> widths) {
  std::vector<std::int32_t> positions(slots_.size());  // by slot
  for (std::size_t k = 0; k < slots_.size(); ++k)
    positions[static_cast<std::size_t>(slots_[k])] = static_cast<std::int32_t>(k);
  std::vector<bool> lone(slots_.size(), true);
  for (const CascadeStep& step : first_steps_) {
    LevelStep level_step{{}, step, {}};
    bool narrow = true;
    for (std::size_t i = 0; i < 3; ++i) {
      const std::int32_t position = positions[static_cast<std::size_t>(step.slots[i])];
      const auto k = static_cast<std::size_t>(position);
      narrow = narrow && (std::size_t{1} << widths[k]) <= smallest_table;
      std::copy_n(tables_[k], smallest_table, level_step.levels[i].begin());
      level_step.symbols[i] = symbols_[k];
    }
    if (!narrow) {
      wide_steps_.push_back(step);
      continue;
    }
    for (const std::int32_t slot : step.slots)
      lone[static_cast<std::size_t>(positions[static_cast<std::size_t>(slot)])] = false;
    level_steps_.push_back(level_step);
  }
  for (std::size_t k = 0; k < slots_.size(); ++k) {
    if (lone[k]) lone_positions_.push_back({static_cast<std::int32_t>(k), widths[k], symbols_[k]});
  }
}

}  // namespace rotorquant
