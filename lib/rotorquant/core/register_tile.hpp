#pragma once
// The part of a matrix product whose results stay in registers: a few rows by a few vectors of columns.
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace rotorquant {

// Makes the compiler load x, a vector that one register holds, once and keep it, where it would read it from
// memory again as an operand of every use: a core that starts one such load a cycle, beside the broadcasts of
// the other operand, then waits for loads and not for arithmetic.
template <typename Vector>
inline void in_register([[maybe_unused]] Vector& x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#elif defined(__AVX__)
  if constexpr (sizeof(Vector) <= 32) asm("" : "+x"(x));
#endif
}

// y(r, c) (+)= sum over k of x(r, k) a(k, c), k ascending and every term rounded by itself; x, a and y begin
// at the tile of `rows` rows and `vectors` vectors of columns. Lanes: a vector of float or double. resume:
// starts from y.
template <typename Lanes, std::int64_t rows, std::int64_t vectors,
          typename Number = std::remove_cvref_t<decltype(Lanes{}[0])>>
void multiply_tile(const Number* x, std::int64_t x_stride, std::int64_t depth, const Number* a,
                   std::int64_t a_stride, bool resume, Number* y, std::int64_t y_stride) {
  constexpr auto lane_count = static_cast<std::int64_t>(sizeof(Lanes) / sizeof(Number));
  // Lane by lane: an array that is copied as a whole would pass through memory.
  Lanes sums[rows][vectors] = {};
  if (resume) {
#pragma GCC unroll 8
    for (std::int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 8
      for (std::int64_t v = 0; v < vectors; ++v) {
        Lanes partial;
        std::memcpy(&partial, y + r * y_stride + v * lane_count, sizeof(partial));
        sums[r][v] = partial;
      }
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Lanes row[vectors];
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < vectors; ++v) {
      Lanes part;
      std::memcpy(&part, a + k * a_stride + v * lane_count, sizeof(part));
      in_register(part);
      row[v] = part;
    }
#pragma GCC unroll 8
    for (std::int64_t r = 0; r < rows; ++r) {
      const Number factor = x[r * x_stride + k];
#pragma GCC unroll 8
      for (std::int64_t v = 0; v < vectors; ++v) sums[r][v] += factor * row[v];
    }
  }
#pragma GCC unroll 8
  for (std::int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < vectors; ++v) {
      const Lanes total = sums[r][v];
      std::memcpy(y + r * y_stride + v * lane_count, &total, sizeof(total));
    }
  }
}

}  // namespace rotorquant
