#include "rotorquant/codes/bit_allocation.hpp"

#include <algorithm>

#include "rotorquant/codebooks/lloyd_max.hpp"

namespace rotorquant {

const WidthDistortions& lloyd_max_distortions() {
  static const WidthDistortions table = [] {
    WidthDistortions distortions{1.0};
    for (int width = 1; width <= max_width; ++width) {
      distortions[static_cast<std::size_t>(width)] = lloyd_max_normal_distortion(width);
    }
    return distortions;
  }();
  return table;
}

std::vector<std::uint8_t> allocate_widths(std::span<const double> energy, std::int64_t total_bits,
                                          const WidthDistortions& distortions) {
  std::vector<std::uint8_t> widths(energy.size(), 0);
  constexpr double exhausted = -1.0;  // below every gain
  const auto gain_of = [&](std::size_t i) {
    const std::size_t width = widths[i];
    return width == max_width ? exhausted : energy[i] * (distortions[width] - distortions[width + 1]);
  };
  std::vector<double> gains(energy.size());
  for (std::size_t i = 0; i < gains.size(); ++i) gains[i] = gain_of(i);
  const std::int64_t budget = std::min(total_bits, static_cast<std::int64_t>(energy.size()) * max_width);
  for (std::int64_t bit = 0; bit < budget; ++bit) {
    const auto best = static_cast<std::size_t>(std::max_element(gains.begin(), gains.end()) - gains.begin());
    ++widths[best];
    gains[best] = gain_of(best);
  }
  return widths;
}

}  // namespace rotorquant
