#pragma once
// Rotations of a few rows (queries, outputs of attention), one block a row, all of its threads at work on one
// vector.
#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

inline constexpr int rotate_threads = 128;

// Steps of a program level by level: steps of one level touch different coordinates and may run at once.
// Returns the steps in order of level and where each level begins, with the end at last.
struct LeveledSteps {
  std::vector<RotationStep> steps;
  std::vector<int> begins;
};
LeveledSteps level_steps(const RotationProgram& program);

// A rotation for rotate_rows: the programs' steps by level.
class RowRotation {
 public:
  explicit RowRotation(const RotationProgram& program);

  // x [rows, input_dim] -> R x [rows, output_dim].
  void apply(cudaStream_t stream, const float* x, std::int64_t rows, float* y) const;

  // What the kernel of rotate_row_back needs; see there.
  struct View {
    RotationProgram::Kind kind;
    int input_dim, output_dim;
    const RotationStep* steps;
    const int* begins;
    int levels;
    const float* numbers;
    const float* transposed_matrix;
  };
  View view() const;

 private:
  RotationProgram::Kind kind_;
  int input_dim_, output_dim_;
  Buffer<RotationStep> steps_;
  Buffer<int> begins_;
  int levels_;
  Buffer<float> numbers_, transposed_;
};

// row [output_dim floats of shared memory], complete; ends with a barrier. With a dense matrix the result is
// in `other`.
__device__ inline float* rotate_row(const RowRotation::View& rotation, bool transpose, float* row,
                                    float* other) {
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  if (rotation.kind == RotationProgram::Kind::dense) {
    const float* const columns = transpose ? rotation.numbers : rotation.transposed_matrix;
    for (int i = thread; i < rotation.input_dim; i += threads) {
      float sum = 0.0F;
      for (int j = 0; j < rotation.input_dim; ++j)
        sum += __ldg(columns + j * rotation.input_dim + i) * row[j];
      other[i] = sum;
    }
    __syncthreads();
    return other;
  }
  if (rotation.kind == RotationProgram::Kind::steps) {
    for (int i = 0; i < rotation.levels; ++i) {
      const int level = transpose ? rotation.levels - 1 - i : i;
      for (int s = rotation.begins[level] + thread; s < rotation.begins[level + 1]; s += threads) {
        turn(rotation.steps[s], transpose, row);
      }
      __syncthreads();
    }
    return row;
  }
  const int dim = rotation.input_dim;
  if (!transpose) {
    for (int i = thread; i < dim; i += threads) row[i] *= __ldg(rotation.numbers + i);
    __syncthreads();
  }
  for (int offset = 0; offset < dim;) {
    const int size = 1 << (31 - __clz(dim - offset));
    for (int stride = 1; stride < size; stride *= 2) {
      for (int i = thread; i < size / 2; i += threads) {
        const int low = offset + (i & ~(stride - 1)) * 2 + (i & (stride - 1));
        const float a = row[low], b = row[low + stride];
        row[low] = a + b;
        row[low + stride] = a - b;
      }
      __syncthreads();
    }
    const float scale = 1.0F / sqrtf(static_cast<float>(size));
    for (int i = thread; i < size; i += threads) row[offset + i] *= scale;
    __syncthreads();
    offset += size;
  }
  if (transpose) {
    for (int i = thread; i < dim; i += threads) row[i] *= __ldg(rotation.numbers + i);
    __syncthreads();
  }
  return row;
}

}  // namespace rotorquant::device
