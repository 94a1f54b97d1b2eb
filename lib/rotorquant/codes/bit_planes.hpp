#pragma once
// The canonical code of b-bit indices: b bit planes a vector. Plane j holds bit j (plane 0 the least
// significant) of the indices of coordinates 0..dim-1 in ceil(dim / 8) bytes; coordinate c is bit c mod 8 of
// byte c / 8. Unused bits are zero. So any dim works, and AVX-512 masks and warp ballots are planes already.
#include <cstdint>

namespace rotorquant {

constexpr std::int64_t plane_bytes(std::int64_t dim) {
  return (dim + 7) / 8;
}

// indices [dim], each below 2^bits -> planes [bits * plane_bytes(dim)].
void pack_planes(const std::uint8_t* indices, std::int64_t dim, int bits, std::uint8_t* planes);
// planes [bits * plane_bytes(dim)] -> indices [dim].
void unpack_planes(const std::uint8_t* planes, std::int64_t dim, int bits, std::uint8_t* indices);

}  // namespace rotorquant
