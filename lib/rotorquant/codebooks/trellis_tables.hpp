#pragma once
// Trellis codebooks for N(0, 1), shipped as data. `rotorquant-train-trellis` regenerates them
// (trellis_training.hpp).
//
// A trellis with memory M has 2^M states. Before coordinate t its register holds the lowest bits of the
// previous M symbols; r = register << 1 | (lowest bit of symbol t), u = symbol t >> 1, and the value is
//   levels[u * 2^(M+1) + r] / scale.
#include <cstdint>
#include <span>

namespace rotorquant {

inline constexpr int max_trellis_width = 8;  // bits of one symbol

struct TrellisTable {
  int memory = 0;  // M: 3 or 5
  int width = 0;   // bits of a symbol, 1..8
  int scale = 0;   // value = level / scale: 32 (levels fit int8) up to width 7, 1024 for width 8
  std::span<const std::int16_t> levels;  // [2^(width + memory)]
  double mse = 0.0;  // distortion per coordinate of these stored levels on N(0, 1), tail-biting, d = 64
};

// The power of two by which values are multiplied before they are rounded to a stored level.
constexpr int trellis_level_scale(int width) {
  return width <= 7 ? 32 : 1024;
}

// The shipped table; Error names the supported ones when there is none.
const TrellisTable& trellis_table(int memory, int width);

// Every shipped table, by ascending memory and width.
std::span<const TrellisTable> trellis_tables();

}  // namespace rotorquant
