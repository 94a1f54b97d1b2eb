#include "rotorquant/device/exact_rotation.cuh"

namespace rotorquant::device {
namespace {

// The signs of a flat triple, (2/3 - 1 on the diagonal, else 2/3) times the sign of the column.
bool is_flat(const RotationStep& step, float (&signs)[3]) {
  constexpr float two_thirds = 2.0F / 3.0F;
  if (step.index[2] < 0 || step.index[3] >= 0) return false;
  for (std::size_t j = 0; j < 3; ++j) {
    signs[j] = step.matrix[j == 0 ? 4 : j] > 0.0F ? 1.0F : -1.0F;
    for (std::size_t i = 0; i < 3; ++i) {
      if (step.matrix[4 * i + j] != (two_thirds - (i == j ? 1.0F : 0.0F)) * signs[j]) return false;
    }
  }
  return true;
}

}  // namespace

std::vector<RotationStep> exact_steps(const RotationProgram& program) {
  std::vector<RotationStep> steps = program.steps;
  for (RotationStep& step : steps) {
    float signs[3];
    if (!is_flat(step, signs)) continue;
    step.index[3] = flat_step;
    for (std::size_t i = 0; i < 3; ++i) step.matrix[i] = signs[i];
  }
  return steps;
}

}  // namespace rotorquant::device
