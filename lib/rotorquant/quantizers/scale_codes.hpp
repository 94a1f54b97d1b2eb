#pragma once
// Codes of a key's own scale n (ScaleCode of calibrated_parameters.hpp): what they stand for, and the code
// nearest, in steps of the logarithm, to a residual of some squared norm. Internal to
// lib/rotorquant/quantizers.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/core/isa.hpp"
#include "rotorquant/quantizers/calibrated_parameters.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"

namespace rotorquant {

class ScaleCodes {
 public:
  ScaleCodes() = default;
  // Of residuals of `dim` coordinates: n = sqrt(energy / dim).
  ScaleCodes(const ScaleCode& code, std::int64_t dim);

  std::int32_t count() const { return static_cast<std::int32_t>(scales_.size()); }
  // n by code, and [k] the least squared norm whose code is k + 1.
  std::span<const float> scales() const { return scales_; }
  std::span<const double> energies() const { return energies_; }
  // The least squared norm that a residual counts as: the code needs a logarithm.
  double least_energy() const { return least_energy_; }

  std::int32_t nearest(double energy) const;
  // Of sixteen squared norms between `least` and `most`: their codes, where the bits of the result say that
  // the bounds leave no other. Without vector instructions none are known.
  std::uint32_t nearest_between(Isa isa, const float* least, const float* most, std::int32_t* codes) const;

 private:
  std::uint32_t nearest_between_avx512(const float* least, const float* most, std::int32_t* codes) const;
  // Of eight.
  std::uint32_t nearest_between_avx2(const float* least, const float* most, std::int32_t* codes) const;

  std::vector<float> scales_;
  std::vector<double> energies_;
  double least_energy_ = 0.0;
  // energies(), k + 1 of them being below or at an entry k + 1; -infinity before them, infinity behind.
  std::vector<float> bounds_;
  float octaves_ = 0.0F;  // codes in an octave of the energy
  float first_ = 0.0F;    // and what is added to its logarithm times that to get a code
};

}  // namespace rotorquant
