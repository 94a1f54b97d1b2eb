// Fast decoders of trellis codes in rotor coordinates, and the tables of all fast decoders.
#include "rotorquant/core/half.hpp"
#include "rotorquant/device/trellis_register_decode.cuh"

namespace rotorquant::device {

std::unique_ptr<TrellisRegisterDecoder> make_block_trellis_decoder(const TrellisCodec& codec) {
  if (auto made = TurnTrellisDecoder<BlockTurn<64, 3>, 2>::of(codec)) return made;
  if (auto made = TurnTrellisDecoder<BlockTurn<64, 3>, 3>::of(codec)) return made;
  if (auto made = TurnTrellisDecoder<BlockTurn<128, 3>, 2>::of(codec)) return made;
  return TurnTrellisDecoder<BlockTurn<128, 3>, 3>::of(codec);
}

template <int bits>
TrellisPairTables<bits> make_pair_tables(const TrellisValueFormat& format) {
  using Tables = TrellisPairTables<bits>;
  Tables tables{};
  const TrellisCodebook& codebook = format.code().codebook();
  const std::span<const float> values = codebook.levels(bits).values();
  const std::span<const float> wide = codebook.levels(bits + 1).values();
  for (std::size_t i = 0; i < Tables::pairs; ++i) {
    const std::size_t window = i % (1U << pair_window_bits);
    const std::size_t upper = i >> pair_window_bits;
    std::size_t u[2] = {};
    for (int k = 0; k < bits - 1; ++k) {
      u[0] |= ((upper >> (2 * k)) & 1U) << k;
      u[1] |= ((upper >> (2 * k + 1)) & 1U) << k;
    }
    const std::uint32_t first = float_to_half(values[u[0] << 6 | window >> 1]);
    const std::uint32_t second = float_to_half(values[u[1] << 6 | (window & 63U)]);
    tables.pair[i] = first | second << 16;
  }
  for (std::size_t i = 0; i < Tables::wide; ++i) tables.single[i] = float_to_half(wide[i]);
  std::copy(format.scales().begin(), format.scales().end(), tables.scale);
  return tables;
}
template TrellisPairTables<2> make_pair_tables<2>(const TrellisValueFormat& format);
template TrellisPairTables<3> make_pair_tables<3>(const TrellisValueFormat& format);

}  // namespace rotorquant::device
