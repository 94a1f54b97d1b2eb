#pragma once
// Bit widths of coordinates that share a budget: each bit goes where it lowers sum_i energy_i D(width_i) most
// (greedy marginal returns; optimal because D is convex in the width).
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/codes/mixed_planes.hpp"

namespace rotorquant {

// Mean squared error of one N(0, 1) coordinate at 0..8 bits.
using WidthDistortions = std::array<double, max_width + 1>;

// Those of the Lloyd-Max quantizers: 1 .36338 .11748 .03454 .009501 ...
const WidthDistortions& lloyd_max_distortions();

// energy [dim], each finite and >= 0 -> widths [dim], each 0..8, with sum min(total_bits, 8 dim). Ties go to
// the lower index.
std::vector<std::uint8_t> allocate_widths(std::span<const double> energy, std::int64_t total_bits,
                                          const WidthDistortions& distortions);

}  // namespace rotorquant
