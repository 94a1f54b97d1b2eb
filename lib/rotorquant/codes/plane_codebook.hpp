#pragma once
// A scalar codebook of 2 to 4 bits that is symmetric about 0, as kernels want it that keep it in registers.
#include <array>

namespace rotorquant {

inline constexpr int least_plane_codebook_bits = 2;
inline constexpr int most_plane_codebook_bits = 4;

struct PlaneCodebook {
  int bits = 0;
  // Those above 0, ascending; [2^(bits - 1) - 1]. 0 is a boundary too, and minus each of these.
  std::array<float, 7> boundaries{};
  alignas(64) std::array<float, 16> centroids{};  // [2^bits]
};

}  // namespace rotorquant
