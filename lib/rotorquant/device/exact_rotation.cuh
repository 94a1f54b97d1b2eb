#pragma once
// Rotations of rows in shared memory, one thread a row, with the CPU's operations in the CPU's order: each
// product and each sum is rounded by itself. A search whose every choice depends on all coordinates before it
// then gives the CPU's codes bit for bit. rotation.cuh has the faster form for where that does not matter.
#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

// The steps of a rotation program with those of the flat cascade told apart: these have -2 as their last
// index and the three signs in the first row of the matrix (CascadeRotation::run).
inline constexpr int flat_step = -2;
std::vector<RotationStep> exact_steps(const RotationProgram& program);

struct ExactRotationView : RotationView {
  bool diagonal_first;  // RotationProgram::diagonal_first
};

class ExactRotation {
 public:
  explicit ExactRotation(const RotationProgram& program)
      : kind_(program.kind),
        input_dim_(static_cast<int>(program.input_dim)),
        output_dim_(static_cast<int>(program.output_dim)),
        diagonal_first_(program.diagonal_first),
        steps_(exact_steps(program)),
        numbers_(program.numbers) {}

  ExactRotationView view() const {
    return {{kind_, input_dim_, output_dim_, steps_.data(), static_cast<int>(steps_.size()), numbers_.data(),
             nullptr},
            diagonal_first_};
  }

 private:
  RotationProgram::Kind kind_;
  int input_dim_, output_dim_;
  bool diagonal_first_;
  Buffer<RotationStep> steps_;
  Buffer<float> numbers_;
};

__device__ inline void turn_exactly(const RotationStep& step, bool diagonal_first, float* row) {
  float in[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) in[i] = step.index[i] < 0 ? 0.0F : row[step.index[i]];
  if (step.index[3] == flat_step) {
#pragma unroll
    for (int i = 0; i < 3; ++i) in[i] = __fmul_rn(step.matrix[i], in[i]);
    const float mean = __fmul_rn(2.0F / 3.0F, __fadd_rn(__fadd_rn(in[0], in[1]), in[2]));
#pragma unroll
    for (int i = 0; i < 3; ++i) row[step.index[i]] = __fsub_rn(mean, in[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (step.index[i] < 0) break;
    float sum = diagonal_first ? __fmul_rn(step.matrix[5 * i], in[i]) : __fmul_rn(step.matrix[4 * i], in[0]);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (step.index[j] >= 0 && j != (diagonal_first ? i : 0)) {
        sum = __fadd_rn(sum, __fmul_rn(step.matrix[4 * i + j], in[j]));
      }
    }
    row[step.index[i]] = sum;
  }
}

// Rotates the thread's row in place, `other` a second row that only dense matrices use. Returns the row with
// the result.
__device__ inline float* rotate_exactly(const ExactRotationView& rotation, float* row, float* other) {
  const int dim = rotation.input_dim;
  switch (rotation.kind) {
    case RotationProgram::Kind::steps:
      for (int s = 0; s < rotation.step_count; ++s)
        turn_exactly(rotation.steps[s], rotation.diagonal_first, row);
      return row;
    case RotationProgram::Kind::hadamard:
      for (int i = 0; i < dim; ++i) row[i] = __fmul_rn(__ldg(rotation.numbers + i), row[i]);
      for (int offset = 0; offset < dim;) {
        const int size = 1 << (31 - __clz(dim - offset));
        float* const data = row + offset;
        for (int stride = 1; stride < size; stride *= 2) {
          for (int i = 0; i < size / 2; ++i) {
            const int low = (i & ~(stride - 1)) * 2 + (i & (stride - 1));
            const float a = data[low], b = data[low + stride];
            data[low] = __fadd_rn(a, b);
            data[low + stride] = __fsub_rn(a, b);
          }
        }
        const auto scale = static_cast<float>(1.0 / sqrt(static_cast<double>(size)));
        for (int i = 0; i < size; ++i) data[i] = __fmul_rn(data[i], scale);
        offset += size;
      }
      return row;
    case RotationProgram::Kind::dense:
      for (int i = 0; i < dim; ++i) {
        float sum = 0.0F;
        for (int j = 0; j < dim; ++j) {
          sum = __fadd_rn(sum, __fmul_rn(row[j], __ldg(rotation.numbers + i * dim + j)));
        }
        other[i] = sum;
      }
      return other;
  }
  return row;
}

}  // namespace rotorquant::device
