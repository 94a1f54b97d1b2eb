#include "rotorquant/quantizers/scale_codes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rotorquant {
namespace {

constexpr double scale_floor = 1e-4;

}  // namespace

ScaleCodes::ScaleCodes(const ScaleCode& code, std::int64_t dim)
    : least_energy_(static_cast<double>(dim) * scale_floor * scale_floor) {
  const int count = 1 << code.bits;
  const auto steps_of = [&](int k) { return k - count / 2 + code.zero; };
  for (int k = 0; k < count; ++k)
    scales_.push_back(
        static_cast<float>(std::exp2(static_cast<double>(steps_of(k)) / code.steps_per_octave)));
  for (int k = 0; k + 1 < count; ++k) {
    // n^2 half a step above that code's.
    const int half_steps = 2 * steps_of(k) + 1;
    energies_.push_back(static_cast<double>(dim) *
                        std::exp2(static_cast<double>(half_steps) / code.steps_per_octave));
  }
  constexpr float infinity = std::numeric_limits<float>::infinity();
  bounds_.push_back(-infinity);
  for (const double energy : energies_) bounds_.push_back(static_cast<float>(energy));
  bounds_.push_back(infinity);
  octaves_ = 0.5F * static_cast<float>(code.steps_per_octave);
  first_ = static_cast<float>(0.5 - steps_of(0)) - octaves_ * std::log2(static_cast<float>(dim));
}

std::int32_t ScaleCodes::nearest(double energy) const {
  return static_cast<std::int32_t>(
      std::upper_bound(energies_.begin(), energies_.end(), std::max(energy, least_energy_)) -
      energies_.begin());
}

std::uint32_t ScaleCodes::nearest_between(Isa isa, const float* least, const float* most,
                                          std::int32_t* codes) const {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return nearest_between_avx512(least, most, codes);
  if (isa == Isa::avx2)
    return nearest_between_avx2(least, most, codes) | nearest_between_avx2(least + 8, most + 8, codes + 8)
                                                          << 8;
#endif
  (void)isa;
  (void)least;
  (void)most;
  (void)codes;
  return 0;
}

}  // namespace rotorquant
