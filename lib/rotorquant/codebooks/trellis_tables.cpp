#include "rotorquant/codebooks/trellis_tables.hpp"

#include <string>

#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

// Written by rotorquant-train-trellis: arrays of levels, and `tables`, an array of TrellisTable.
#include "rotorquant/codebooks/trellis_tables.inc"

}  // namespace

std::span<const TrellisTable> trellis_tables() {
  return tables;
}

const TrellisTable& trellis_table(int memory, int width) {
  std::string valid;
  for (const TrellisTable& table : tables) {
    if (table.memory == memory && table.width == width) return table;
    valid += (valid.empty() ? "" : ", ") + std::to_string(table.memory) + "/" + std::to_string(table.width);
  }
  throw Error("no trellis table of memory " + std::to_string(memory) + " and width " + std::to_string(width) +
              "; valid (memory/width): " + valid);
}

}  // namespace rotorquant
