#include <cmath>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/trellis_pairs.cuh"

namespace rotorquant::device {

template <int bits>
HalfPairs<bits> make_half_pairs(const TrellisCodebook& codebook) {
  HalfPairs<bits> tables{};
  const auto half = [&](int width, int u, int r) {
    return static_cast<std::uint32_t>(
        float_to_half(codebook.levels(width).values()[static_cast<std::size_t>(u << 6 | r)]));
  };
  for (const bool wide : {false, true}) {
    for_each_pair<bits>(wide, [&](int i, int u, int r, int next_u, int next_r) {
      (wide ? tables.wide : tables.pair)[i] = half(wide ? bits + 1 : bits, u, r) | half(bits, next_u, next_r)
                                                                                       << 16;
    });
  }
  return tables;
}
template HalfPairs<2> make_half_pairs<2>(const TrellisCodebook& codebook);
template HalfPairs<3> make_half_pairs<3>(const TrellisCodebook& codebook);

bool has_trellis_pairs(const TrellisValueFormat& format) {
  return format.code().memory() == 5 && (format.bits() == 2 || format.bits() == 3) &&
         (format.dim() == 64 || format.dim() == 128);
}

float scale_octaves(const TrellisValueFormat& format) {
  return std::log2(format.scales()[128]);
}

}  // namespace rotorquant::device
