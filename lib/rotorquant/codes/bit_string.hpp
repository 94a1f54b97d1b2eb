#pragma once
// Bits in memory, little-endian: bit i of a string is bit i % 8 of byte i / 8. Planes of a trellis code are
// such strings, concatenated without padding; eight coordinates at a time travel between a plane and bytes in
// one multiplication.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace rotorquant::trellis {

static_assert(std::endian::native == std::endian::little, "bit strings are read as little-endian words");

// No byte beyond data[bytes - 1] is read.
struct BitString {
  const std::uint8_t* data;
  std::size_t bytes;
};

// The bits from `bit` (inside the string) on, at least 57 of them; zeros beyond the end.
inline std::uint64_t load_bits(const BitString& string, std::size_t bit) {
  if (string.bytes >= sizeof(std::uint64_t)) {
    std::uint64_t word;
    // Near the end the last whole word is read and shifted further.
    const std::size_t last = string.bytes - sizeof(word);
    const std::size_t byte = bit / 8 < last ? bit / 8 : last;
    std::memcpy(&word, string.data + byte, sizeof(word));
    return word >> (bit - 8 * byte);
  }
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < string.bytes; ++i)
    word |= static_cast<std::uint64_t>(string.data[i]) << (8 * i);
  return word >> bit;
}

// Bit i of `bits` to byte i, as 0 or 1.
inline std::uint64_t bits_to_bytes(std::uint64_t bits) {
  const std::uint64_t chosen = ((bits & 0xFF) * 0x0101010101010101U) & 0x8040201008040201U;
  return ((chosen + 0x7F7F7F7F7F7F7F7FU) >> 7) & 0x0101010101010101U;
}

// The inverse: bit 0 of byte i to bit i.
inline std::uint64_t bytes_to_bits(std::uint64_t bytes) {
  return ((bytes & 0x0101010101010101U) * 0x0102040810204080U) >> 56;
}

// Appends bits to zeroed or fresh memory; finish() writes the last, partial byte.
class BitWriter {
 public:
  explicit BitWriter(std::uint8_t* data) : data_(data) {}

  // The lowest `count` <= 56 bits of `bits`; higher ones must be 0.
  void append(std::uint64_t bits, int count) {
    pending_ |= bits << fill_;
    fill_ += count;
    for (; fill_ >= 8; fill_ -= 8) {
      *data_++ = static_cast<std::uint8_t>(pending_);
      pending_ >>= 8;
    }
  }
  // Bit `plane` of each of `count` symbols, coordinate 0 first. symbols must be readable up to a multiple
  // of 8.
  void append_plane(const std::uint8_t* symbols, int count, int plane) {
    for (int t = 0; t < count; t += 8) {
      std::uint64_t bytes = 0;
      std::memcpy(&bytes, symbols + t, sizeof(bytes));
      const int taken = count - t < 8 ? count - t : 8;
      append(bytes_to_bits(bytes >> plane) & ((1U << taken) - 1U), taken);
    }
  }
  void finish() {
    if (fill_ > 0) *data_ = static_cast<std::uint8_t>(pending_);
  }

 private:
  std::uint8_t* data_;
  std::uint64_t pending_ = 0;
  int fill_ = 0;
};

// ORs the `count` bits from `bit` on into bit `plane` of the symbols. symbols must be readable and writable
// up to a multiple of 8.
inline void read_plane(const BitString& string, std::size_t bit, std::uint8_t* symbols, int count,
                       int plane) {
  for (int t = 0; t < count; t += 8) {
    std::uint64_t bits = load_bits(string, bit + static_cast<std::size_t>(t));
    if (count - t < 8) bits &= (1U << (count - t)) - 1U;
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, symbols + t, sizeof(bytes));
    bytes |= bits_to_bytes(bits) << plane;
    std::memcpy(symbols + t, &bytes, sizeof(bytes));
  }
}

// For a plane 0 of `dim` bits at the start of the string with coordinate t at bit dim - 1 - t: the registers
// of the 32 coordinates t, t + 1, .. (t a multiple of 32). r of coordinate t + j is bits 31 - j .. 31 - j +
// memory of the result; bits of coordinates beyond dim are unspecified.
inline std::uint64_t register_window(const BitString& string, int dim, int memory, int t) {
  const int first = dim - 32 - t;
  std::uint64_t window =
      first >= 0 ? load_bits(string, static_cast<std::size_t>(first)) : load_bits(string, 0) << -first;
  if (t == 0) {
    // Above coordinate 0 follows coordinate dim - 1 again, more than once when dim < memory.
    std::uint64_t circle = load_bits(string, 0);
    if (dim < 32) circle &= (std::uint64_t{1} << dim) - 1U;
    window &= 0xFFFFFFFFU;
    for (int filled = 32; filled < 32 + memory; filled += dim) window |= circle << filled;
  }
  return window;
}

}  // namespace rotorquant::trellis
