// The product of a code's bits and the matrix of key_indices.hpp, on the CPU as the kernel's lanes make it:
// every coordinate's level is where it says.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/key_indices.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"

namespace rotorquant::test {
namespace {

using device::IndexShape;
using device::KeyCode;
using device::KeyIndices;

// What lane t has of the bits from `bit` on: a word.
std::uint32_t word_at(const std::vector<std::uint8_t>& code, int bit) {
  std::uint32_t word = 0;
  for (int i = 0; i < 32; ++i) {
    const auto byte = static_cast<std::size_t>((bit + i) / 8);
    if (byte < code.size()) word |= (code[byte] >> ((bit + i) % 8) & 1U) << i;
  }
  return word;
}

// Byte `byte` of register m of a lane's slots, of `each` bits.
int slot_value(int dim, std::uint32_t word, int m, int byte, int place, int each) {
  const int bit = (dim == 128 ? 8 * byte : 8 * (byte % 2) + 4 * (byte / 2)) + each * m;
  return static_cast<int>(word >> bit & ((1U << each) - 1U)) << place;
}

// The addresses of all columns.
std::vector<int> addresses(const std::vector<std::uint8_t>& code, int upper_bit, const IndexShape& shape,
                           const KeyIndices& indices) {
  const device::SlotBits bits = device::slot_bits(shape.code);
  std::vector<int> slots(static_cast<std::size_t>(32 * shape.steps(indices.groups)));
  const auto put = [&](int step, int h, int t, int byte, int value) {
    slots[static_cast<std::size_t>(32 * step + 16 * h + 4 * t + byte)] = value;
  };
  for (int t = 0; t < 4; ++t) {
    for (int group = -1; group < indices.groups; ++group) {
      const int first = group < 0 ? 0 : upper_bit + group * shape.dim;
      const std::uint32_t word = word_at(code, first + shape.dim / 4 * t);
      for (int m = 0; m < 2 * shape.group_steps(); ++m) {
        for (int byte = 0; byte < 4; ++byte) {
          put(shape.group_step(group) + m / 2, m % 2, t, byte,
              slot_value(shape.dim, word, m, byte, group < 0 ? bits.plane_place : bits.upper_place,
                         bits.each));
        }
      }
    }
    const std::uint32_t tail = word_at(code, indices.tail_bit + 8 * t);
    for (int i = 0; i < 8; ++i) {
      const bool constant = t == 3 && i >= 6;
      put(shape.tail_step(indices.groups), i / 4, t, i % 4,
          constant ? 128 : static_cast<int>(tail >> i & 1U) << bits.tail_place);
    }
  }
  std::vector<int> sums(static_cast<std::size_t>(shape.columns()));
  for (int column = 0; column < shape.columns(); ++column) {
    for (int slot = 0; slot < static_cast<int>(slots.size()); ++slot) {
      sums[static_cast<std::size_t>(column)] +=
          slots[static_cast<std::size_t>(slot)] *
          indices.weights[static_cast<std::size_t>(shape.place(slot, column))];
    }
  }
  return sums;
}

float half_at(const KeyIndices& indices, int byte) {
  std::uint16_t half = 0;
  std::memcpy(&half, indices.tables.data() + byte, sizeof half);
  return half_to_float(half);
}

// Of all storage positions.
std::vector<float> levels_of(const CalibratedCodec& codec, const std::vector<std::uint8_t>& code) {
  const MixedPlanes& planes = codec.planes();
  const auto dim = static_cast<std::size_t>(codec.dim());
  std::vector<std::uint8_t> stored(static_cast<std::size_t>(planes.symbol_bytes())), symbols(dim);
  planes.read(trellis::BitString(code.data(), code.size()), 0, stored.data());
  std::vector<float> decoded(dim), levels(dim);
  for (std::size_t p = 0; p < dim; ++p) symbols[static_cast<std::size_t>(planes.order()[p])] = stored[p];
  if (codec.trellis() != nullptr) codec.trellis()->code().decode(symbols.data(), decoded.data());
  for (std::size_t p = 0; p < dim; ++p) {
    const auto c = static_cast<std::size_t>(planes.order()[p]);
    levels[p] = codec.trellis() != nullptr ? decoded[c] : NormalLevels(codec.widths()[c])[symbols[c]];
  }
  return levels;
}

TEST(KeyIndices, FindTheLevelsOfEveryCode) {
  int twos = 0;
  for (const bool trellis : {false, true}) {
    const CalibratedCode kind{trellis ? CalibratedCodecKind::trellis : CalibratedCodecKind::lloyd_max, 5};
    for (const int dim : {64, 128}) {
      for (const int bits : {1, 2, 3, 4}) {
        const auto parameters = testing_support::random_parameters(dim, bits, BlockKind::rotor);
        // Evenly spread energies at 2 bits: hardly any symbols have a third one.
        if (bits == 2) std::fill(parameters->deviations.begin(), parameters->deviations.end(), 1.0F);
        constexpr std::int64_t count = 40;
        const std::vector<float> x = testing_support::random_keys(*parameters, count);
        const CalibratedCodec codec(parameters, {}, nearest_search, kind);
        CodeBuffer buffer(codec.layout(), count);
        codec.encode({}, {x.data(), count, dim}, buffer.view());
        const std::int64_t bytes = codec.layout().arrays[0].bytes_per_vector();
        std::vector<IndexShape> shapes;
        for (const int single_steps : {0, 2, dim / 16}) {
          if (single_steps < device::single_steps(codec)) continue;
          shapes.push_back({dim, single_steps, trellis ? KeyCode::trellis : KeyCode::scalar});
          if (device::key_code(codec) != KeyCode::scalar_twos) continue;
          shapes.push_back({dim, single_steps, KeyCode::scalar_twos});
          ++twos;
        }
        for (const IndexShape& shape : shapes) {
          SCOPED_TRACE(fmt::format("code {} at {} bits, dim {}, {} single steps",
                                   static_cast<int>(shape.code), bits, dim, shape.single_steps));
          const KeyIndices indices = device::key_indices(codec, shape);
          for (std::int64_t i = 0; i < count; ++i) {
            const std::uint8_t* const begin = std::as_const(buffer).view().arrays[0] + i * bytes;
            const std::vector<std::uint8_t> code(begin, begin + bytes);
            const std::vector<int> at =
                addresses(code, static_cast<int>(codec.planes().count_at_least(1)), shape, indices);
            const std::vector<float> expected = levels_of(codec, code);
            for (std::size_t p = 0; p < expected.size(); ++p) {
              const int inner = indices.inner[p];
              const bool single = inner / 16 < shape.single_steps;
              const int byte = at[static_cast<std::size_t>(shape.column_of(single ? inner : inner / 2 * 2))] +
                               (single ? 0 : inner % 2 * 2);
              ASSERT_LE(byte + 2, static_cast<int>(indices.tables.size()));
              ASSERT_EQ(half_at(indices, byte), half_to_float(float_to_half(expected[p])))
                  << "key " << i << ", position " << p;
            }
          }
        }
      }
    }
  }
  EXPECT_GT(twos, 0);
}

}  // namespace
}  // namespace rotorquant::test
