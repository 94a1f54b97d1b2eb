#pragma once
// Queries in 8-bit integers in the order in which kernels find the symbols of bit planes.
#include <cstdint>
#include <cstring>

namespace rotorquant {

// Word 8 b + r has the integers of coordinates 32 b + r + 8 q in its bytes q; [ordered_words(dim)]. Zeros
// where there is no coordinate.
constexpr std::int64_t ordered_words(std::int64_t dim) {
  return (dim + 31) / 32 * 8;
}
inline void order_query(const std::int8_t* query, std::int64_t dim, std::int32_t* words) {
  for (std::int64_t block = 0; block < dim; block += 32) {
    for (std::int64_t r = 0; r < 8; ++r) {
      std::int8_t bytes[4] = {};
      for (std::int64_t q = 0; q < 4; ++q) {
        if (block + r + 8 * q < dim) bytes[q] = query[block + r + 8 * q];
      }
      std::memcpy(words + block / 4 + r, bytes, sizeof bytes);
    }
  }
}

}  // namespace rotorquant
