#pragma once
// What the versions of load_keys() (calibrated_columns.hpp) share. Internal to lib/rotorquant/quantizers.
#include <algorithm>
#include <cstdint>

#include "rotorquant/quantizers/calibrated_columns.hpp"

namespace rotorquant {

// The bits of 2^23; a number on the grid is one of the lowest bits above it.
inline constexpr std::int32_t grid_zero = 0x4B000000;
inline constexpr std::int64_t keys_of_words = 16;  // whose words lie together

// Where some keys of a block go.
struct KeyEnds {
  const CascadeProgram& program;
  const float* shift;
  float* columns;       // of the first key
  const KeyGrid* grid;  // or null
  std::int32_t* words;  // of the first key, [grid->words(), keys_of_words]
};

// load_keys() by load<type, with a grid>(rows, their ends), which takes up to `lanes` rows and returns a bit
// for each that is off the grid.
template <std::int64_t lanes, typename Load>
std::uint32_t load_block(const ConstHostTensor& x, const float* shift, const CascadeProgram& program,
                         const KeyGrid* grid, float* columns, std::int32_t* words, const Load& load) {
  static_assert(keys_of_words % lanes == 0);
  std::uint32_t outside = 0;
  dispatch_type(x.type, [&]<ElementType type>() {
    for (std::int64_t begin = 0; begin < cascade_lanes; begin += lanes) {
      const std::int64_t rows = std::clamp<std::int64_t>(x.rows - begin, 0, lanes);
      const ConstHostTensor own = x.row_range(begin, rows);
      std::int32_t* own_words =
          grid == nullptr
              ? nullptr
              : words + begin / keys_of_words * keys_of_words * grid->words() + begin % keys_of_words;
      const KeyEnds ends{program, shift, columns + begin, grid, own_words};
      const std::uint32_t found = grid == nullptr ? load.template operator()<type, false>(own, ends)
                                                  : load.template operator()<type, true>(own, ends);
      outside |= (found & ((1U << rows) - 1U)) << begin;
    }
  });
  return outside;
}

}  // namespace rotorquant
