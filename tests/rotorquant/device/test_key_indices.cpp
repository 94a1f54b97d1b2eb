// The product of a code's bits and the matrix of key_indices.hpp, on the CPU as the kernel's lanes make it:
// every coordinate's level is where it says.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/key_indices.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"

namespace rotorquant::test {
namespace {

using device::IndexShape;
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

// Byte `byte` of register m of a lane's slots.
int slot_value(int dim, std::uint32_t word, int m, int byte, int place) {
  const int bit = dim == 128 ? 8 * byte + m : 8 * (byte % 2) + 4 * (byte / 2) + m;
  return static_cast<int>(word >> bit & 1U) << place;
}

// The addresses of all columns.
std::vector<int> addresses(const std::vector<std::uint8_t>& code, int upper_bit, const IndexShape& shape,
                           const KeyIndices& indices, bool trellis) {
  const int plane_place = trellis ? device::trellis_plane_place : device::scalar_plane_place;
  const int upper_place = trellis ? device::trellis_upper_place : device::scalar_upper_place;
  std::vector<int> slots(static_cast<std::size_t>(32 * shape.steps(indices.groups)));
  const auto put = [&](int step, int h, int t, int byte, int value) {
    slots[static_cast<std::size_t>(32 * step + 16 * h + 4 * t + byte)] = value;
  };
  for (int t = 0; t < 4; ++t) {
    for (int group = -1; group < indices.groups; ++group) {
      const int first = group < 0 ? 0 : upper_bit + group * shape.dim;
      const std::uint32_t word = word_at(code, first + shape.dim / 4 * t);
      for (int m = 0; m < shape.dim / 16; ++m) {
        for (int byte = 0; byte < 4; ++byte) {
          put(shape.group_step(group) + m / 2, m % 2, t, byte,
              slot_value(shape.dim, word, m, byte, group < 0 ? plane_place : upper_place));
        }
      }
    }
    const std::uint32_t tail = word_at(code, upper_bit + indices.groups * shape.dim + 8 * t);
    for (int i = 0; i < 8; ++i) {
      const bool constant = t == 3 && i >= 6;
      put(shape.tail_step(indices.groups), i / 4, t, i % 4,
          constant ? 128 : static_cast<int>(tail >> i & 1U) << upper_place);
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

TEST(KeyIndices, FindTheLevelsOfEveryCode) {
  for (const bool trellis : {false, true}) {
    const CalibratedCode kind{trellis ? CalibratedCodecKind::trellis : CalibratedCodecKind::lloyd_max, 5};
    for (const int dim : {64, 128}) {
      for (const int bits : {1, 2, 3, 4}) {
        const auto parameters = testing_support::random_parameters(dim, bits, BlockKind::rotor);
        constexpr std::int64_t count = 40;
        const std::vector<float> x = testing_support::random_keys(*parameters, count);
        const CalibratedCodec codec(parameters, {}, nearest_search, kind);
        CodeBuffer buffer(codec.layout(), count);
        codec.encode({}, {x.data(), count, dim}, buffer.view());
        const int least = device::single_steps(codec);
        for (const int single_steps : {0, 2, dim / 16}) {
          if (single_steps < least) continue;
          SCOPED_TRACE(fmt::format("{} at {} bits, dim {}, {} single steps", trellis ? "trellis" : "scalar",
                                   bits, dim, single_steps));
          const IndexShape shape{dim, single_steps};
          const KeyIndices indices = device::key_indices(codec, shape);
          const std::int64_t bytes = codec.layout().arrays[0].bytes_per_vector();
          for (std::int64_t i = 0; i < count; ++i) {
            const std::uint8_t* const begin = std::as_const(buffer).view().arrays[0] + i * bytes;
            const std::vector<std::uint8_t> code(begin, begin + bytes);
            const std::vector<int> at =
                addresses(code, static_cast<int>(codec.planes().count_at_least(1)), shape, indices, trellis);
            std::vector<std::uint8_t> symbols(static_cast<std::size_t>(codec.planes().symbol_bytes()));
            codec.planes().read(trellis::BitString(code.data(), code.size()), 0, symbols.data());
            std::vector<std::uint8_t> by_coordinate(static_cast<std::size_t>(dim));
            std::vector<float> levels(static_cast<std::size_t>(dim));
            for (std::size_t p = 0; p < by_coordinate.size(); ++p)
              by_coordinate[static_cast<std::size_t>(codec.planes().order()[p])] = symbols[p];
            if (trellis) codec.trellis()->code().decode(by_coordinate.data(), levels.data());
            for (std::size_t p = 0; p < by_coordinate.size(); ++p) {
              const auto c = static_cast<std::size_t>(codec.planes().order()[p]);
              const float expected = trellis ? levels[c] : NormalLevels(codec.widths()[c])[by_coordinate[c]];
              const int inner = indices.inner[p];
              const bool single = inner / 16 < single_steps;
              const int byte = at[static_cast<std::size_t>(shape.column_of(single ? inner : inner / 2 * 2))] +
                               (single ? 0 : inner % 2 * 2);
              ASSERT_LE(byte + 2, static_cast<int>(indices.tables.size()));
              ASSERT_EQ(half_at(indices, byte), half_to_float(float_to_half(expected)))
                  << "key " << i << ", position " << p << " of width " << static_cast<int>(codec.widths()[c]);
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace rotorquant::test
