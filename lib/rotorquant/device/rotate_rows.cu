#include <algorithm>

#include "rotorquant/device/rotate_rows.cuh"

namespace rotorquant::device {
namespace {

__global__ void rotate_kernel(RowRotation::View rotation, const float* x, float* y) {
  extern __shared__ float memory[];
  // A kernel that may overlap with this one waits for its end before it takes the results.
  asm volatile("griddepcontrol.launch_dependents;");
  const std::int64_t r = blockIdx.x;
  for (int i = static_cast<int>(threadIdx.x); i < rotation.output_dim; i += rotate_threads) {
    memory[i] = i < rotation.input_dim ? x[r * rotation.input_dim + i] : 0.0F;
  }
  __syncthreads();
  const float* const rotated = rotate_row(rotation, false, memory, memory + rotation.output_dim);
  for (int i = static_cast<int>(threadIdx.x); i < rotation.output_dim; i += rotate_threads) {
    y[r * rotation.output_dim + i] = rotated[i];
  }
}

}  // namespace

LeveledSteps level_steps(const RotationProgram& program) {
  std::vector<int> level_of(static_cast<std::size_t>(program.output_dim),
                            0);  // levels done, of each coordinate
  std::vector<std::vector<RotationStep>> levels;
  for (const RotationStep& step : program.steps) {
    int level = 0;
    for (const std::int32_t c : step.index) {
      if (c >= 0) level = std::max(level, level_of[static_cast<std::size_t>(c)]);
    }
    for (const std::int32_t c : step.index) {
      if (c >= 0) level_of[static_cast<std::size_t>(c)] = level + 1;
    }
    if (static_cast<std::size_t>(level) == levels.size()) levels.emplace_back();
    levels[static_cast<std::size_t>(level)].push_back(step);
  }
  LeveledSteps leveled;
  leveled.begins.push_back(0);
  for (const auto& level : levels) {
    leveled.steps.insert(leveled.steps.end(), level.begin(), level.end());
    leveled.begins.push_back(static_cast<int>(leveled.steps.size()));
  }
  return leveled;
}

RowRotation::RowRotation(const RotationProgram& program)
    : kind_(program.kind),
      input_dim_(static_cast<int>(program.input_dim)),
      output_dim_(static_cast<int>(program.output_dim)),
      numbers_(program.numbers) {
  const LeveledSteps leveled = level_steps(program);
  steps_ = Buffer<RotationStep>(leveled.steps);
  begins_ = Buffer<int>(leveled.begins);
  levels_ = static_cast<int>(leveled.begins.size()) - 1;
  if (kind_ != RotationProgram::Kind::dense) return;
  const auto dim = static_cast<std::size_t>(program.input_dim);
  std::vector<float> transposed(dim * dim);
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t j = 0; j < dim; ++j) transposed[j * dim + i] = program.numbers[i * dim + j];
  }
  transposed_ = Buffer<float>(transposed);
}

RowRotation::View RowRotation::view() const {
  return {kind_,          input_dim_, output_dim_,     steps_.data(),
          begins_.data(), levels_,    numbers_.data(), transposed_.data()};
}

void RowRotation::apply(cudaStream_t stream, const float* x, std::int64_t rows, float* y) const {
  if (rows == 0) return;
  const std::size_t bytes = 2 * sizeof(float) * static_cast<std::size_t>(output_dim_);
  rotate_kernel<<<static_cast<unsigned>(rows), rotate_threads, bytes, stream>>>(view(), x, y);
  check_launch("rotate");
}

}  // namespace rotorquant::device
