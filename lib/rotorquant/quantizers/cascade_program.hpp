#pragma once
// A cascade of 3x3 blocks (calibrated_parameters.hpp) as kernels run it: columns of 32 vectors, coordinate by
// coordinate, in place. Every block is written as a row permutation, a matrix with ones on its diagonal, and
// a scale of each input; the permutation and the scales move to the layer before, and in the end to the
// inputs. So a block takes six multiply-adds where a plain one takes nine products and six sums, and outputs
// come in the order asked for. Internal to lib/rotorquant/quantizers.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/core/isa.hpp"
#include "rotorquant/quantizers/calibrated_parameters.hpp"

namespace rotorquant {

// Vectors that go through a cascade together: two 512-bit registers of floats.
inline constexpr std::int64_t cascade_lanes = 32;

// (a, b, c) <- (a + f0 b + f1 c, b + f2 a + f3 c, c + f4 a + f5 b), the second product added last, each
// product and sum rounded once.
struct CascadeStep {
  std::array<std::int32_t, 3> slots;
  std::array<float, 6> factors;
};

struct CascadeProgram {
  std::vector<CascadeStep> steps;   // in the order of running
  std::vector<std::int32_t> slots;  // [dim]: input i starts in slots[i]; output i is found in slot i
  std::vector<float> scales;        // [dim]: and is multiplied by scales[i] first
};

// x [dim] -> y [dim], y_k = (F x)_(order k) / deviations_(order k).
CascadeProgram forward_program(const BlockCascade& cascade, std::span<const double> deviations,
                               std::span<const std::int32_t> order);
// Its inverse: y -> F^-1 (deviations y), y_k the coordinate order k.
CascadeProgram inverse_program(const BlockCascade& cascade, std::span<const double> deviations,
                               std::span<const std::int32_t> order);

// Steps in an order with the same results: those on slots that nothing has changed before, then the rest.
struct CascadeStages {
  std::vector<CascadeStep> first, rest;
};
CascadeStages stages_of(const CascadeProgram& program);

// No column exceeds this, at any step, when no input exceeds `input`; float32's roundings included.
double largest_column(const CascadeProgram& program, double input);

// columns [dim, cascade_lanes] on whole cache lines, in place.
void run_steps(Isa isa, std::span<const CascadeStep> steps, float* columns);
void run_steps_avx512(std::span<const CascadeStep> steps, float* columns);

}  // namespace rotorquant
