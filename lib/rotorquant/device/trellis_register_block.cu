// Fast decoders of trellis codes in rotor coordinates, and the tables of all fast decoders.
#include "rotorquant/core/half.hpp"
#include "rotorquant/device/trellis_register_decode.cuh"

namespace rotorquant::device {

std::unique_ptr<TrellisRegisterDecoder> make_block_trellis_decoder(const TrellisCodec& codec) {
  if (auto made = TurnTrellisDecoder<RotorTurn<64>, 2>::of(codec)) return made;
  if (auto made = TurnTrellisDecoder<RotorTurn<64>, 3>::of(codec)) return made;
  if (auto made = TurnTrellisDecoder<RotorTurn<128>, 2>::of(codec)) return made;
  return TurnTrellisDecoder<RotorTurn<128>, 3>::of(codec);
}

template <int bits>
TrellisPairTables<bits> make_pair_tables(const TrellisValueFormat& format) {
  using Tables = TrellisPairTables<bits>;
  Tables tables{};
  const TrellisCodebook& codebook = format.code().codebook();
  const std::span<const float> values = codebook.levels(bits).values();
  const std::span<const float> wide = codebook.levels(bits + 1).values();
  const auto half = [](std::span<const float> levels, int u, int r) {
    return static_cast<std::uint32_t>(float_to_half(levels[static_cast<std::size_t>(u << 6 | r)]));
  };
  for_each_pair<bits>(false, [&](int i, int u, int r, int next_u, int next_r) {
    tables.pair[i] = half(values, u, r) | half(values, next_u, next_r) << 16;
  });
  for (std::size_t i = 0; i < Tables::wide; ++i) tables.single[i] = float_to_half(wide[i]);
  std::copy(format.scales().begin(), format.scales().end(), tables.scale);
  return tables;
}
template TrellisPairTables<2> make_pair_tables<2>(const TrellisValueFormat& format);
template TrellisPairTables<3> make_pair_tables<3>(const TrellisValueFormat& format);

}  // namespace rotorquant::device
