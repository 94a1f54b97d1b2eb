#pragma once
// Rows of numbers of any type, each times its own factor, to and from float32.
#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/isa.hpp"

namespace rotorquant {

// out(r) = factors[r] x(r) in float32; out [x.rows, x.cols].
void load_scaled(Isa isa, const ConstHostTensor& x, const float* factors, float* out);

// out(r) = factors[r] x(r) in float32, then rounded to nearest even in the type of `out`; x [out.rows,
// out.cols]. `stream` says that nobody reads `out` soon: it may bypass the caches, and other threads see it
// after this thread's finish_streams().
void store_scaled(Isa isa, const float* x, const float* factors, bool stream, const HostTensor& out);

void finish_streams();

// Results that take more than this would push one another out of the caches before anybody reads them.
inline constexpr std::int64_t streamed_bytes = 32 << 20;

// Whether every row of `out` is whole cache lines.
inline bool whole_lines(const HostTensor& out) {
  constexpr std::int64_t line = 64;
  return out.cols * element_bytes(out.type) % line == 0 &&
         reinterpret_cast<std::uintptr_t>(out.data) % line == 0;
}
// Whether rows of `out` may be written past the caches 16 numbers at a time.
inline bool streams_whole(const HostTensor& out) {
  constexpr std::int64_t together = 16;
  const auto bytes = static_cast<std::uintptr_t>(together * element_bytes(out.type));
  return out.cols % together == 0 && reinterpret_cast<std::uintptr_t>(out.data) % bytes == 0;
}

}  // namespace rotorquant
