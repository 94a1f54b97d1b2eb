#include "rotorquant/codes/bit_planes.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace rotorquant {
namespace {

// Gathers bit `bit` of each of the eight bytes of `word` into one byte, byte i to bit i. The multiplier moves
// the eight isolated low bits to the top byte without carries.
inline std::uint8_t gather_bit(std::uint64_t word, int bit) {
  constexpr std::uint64_t low_bits = 0x0101010101010101U;
  return static_cast<std::uint8_t>((((word >> bit) & low_bits) * 0x0102040810204080U) >> 56);
}

// The reverse: bit i of `byte` to the low bit of byte i.
inline std::uint64_t spread_bits(std::uint8_t byte) {
  const std::uint64_t repeated = byte * 0x0101010101010101U;
  const std::uint64_t isolated = repeated & 0x8040201008040201U;
  return ((isolated + 0x7F7F7F7F7F7F7F7FU) >> 7) & 0x0101010101010101U;
}

static_assert(std::endian::native == std::endian::little, "bit planes are moved as little-endian words");

}  // namespace

void pack_planes(const std::uint8_t* indices, std::int64_t dim, int bits, std::uint8_t* planes) {
  const std::int64_t stride = plane_bytes(dim);
  for (std::int64_t byte = 0; byte < stride; ++byte) {
    std::uint64_t word = 0;
    std::memcpy(&word, indices + 8 * byte,
                static_cast<std::size_t>(std::min<std::int64_t>(8, dim - 8 * byte)));
    for (int j = 0; j < bits; ++j) planes[j * stride + byte] = gather_bit(word, j);
  }
}

void unpack_planes(const std::uint8_t* planes, std::int64_t dim, int bits, std::uint8_t* indices) {
  const std::int64_t stride = plane_bytes(dim);
  for (std::int64_t byte = 0; byte < stride; ++byte) {
    std::uint64_t word = 0;
    for (int j = 0; j < bits; ++j) word |= spread_bits(planes[j * stride + byte]) << j;
    std::memcpy(indices + 8 * byte, &word,
                static_cast<std::size_t>(std::min<std::int64_t>(8, dim - 8 * byte)));
  }
}

}  // namespace rotorquant
