// Fast paths of rotations by blocks: rotor, givens, quaternion.
#include "rotorquant/device/register_codec.cuh"

namespace rotorquant::device {

std::unique_ptr<RegisterCodec> make_block_register_codec(const ScalarCodec& codec) {
  if (auto made = TurnRegisterCodec<BlockTurn<64, 3>>::of(codec)) return made;
  if (auto made = TurnRegisterCodec<BlockTurn<80, 3>>::of(codec)) return made;
  if (auto made = TurnRegisterCodec<BlockTurn<96, 3>>::of(codec)) return made;
  if (auto made = TurnRegisterCodec<BlockTurn<128, 3>>::of(codec)) return made;
  if (auto made = TurnRegisterCodec<BlockTurn<128, 2>>::of(codec)) return made;
  return TurnRegisterCodec<BlockTurn<128, 4>>::of(codec);
}

std::optional<SymmetricCodebook> SymmetricCodebook::of(const Codebook& codebook) {
  const int bits = codebook.bits();
  if (bits < 2 || bits > 4) return std::nullopt;
  const std::size_t half = codebook.centroids.size() / 2;
  SymmetricCodebook tables{bits, {}, {}};
  if (codebook.boundaries[half - 1] != 0.0F) return std::nullopt;
  for (std::size_t k = 1; k < half; ++k) {
    tables.threshold[k] = codebook.boundaries[half - 1 + k];
    if (codebook.boundaries[half - 1 - k] != -tables.threshold[k]) return std::nullopt;
  }
  const std::size_t first = bits == 4 ? half : 0;
  for (std::size_t i = first; i < codebook.centroids.size(); ++i) {
    if (bits == 4 && codebook.centroids[codebook.centroids.size() - 1 - i] != -codebook.centroids[i]) {
      return std::nullopt;
    }
    std::uint32_t word = 0;
    static_assert(sizeof word == sizeof codebook.centroids[i]);
    std::memcpy(&word, &codebook.centroids[i], sizeof word);
    const std::size_t entry = i - first;
    for (std::size_t b = 0; b < 4; ++b) {
      std::uint32_t& bytes = (entry < 4 ? tables.centroids.low : tables.centroids.high)[b];
      bytes |= ((word >> (8 * b)) & 0xFFU) << (8 * (entry % 4));
    }
  }
  return tables;
}

}  // namespace rotorquant::device
