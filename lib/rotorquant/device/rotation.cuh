#pragma once
// Any rotation (rotation_program.hpp) of rows that lie in shared memory, one thread a row: the general path,
// for every rotation and dim. Thread i's row starts at rows + i * pitch with an odd pitch, so that a warp
// that reads one coordinate of 32 rows touches 32 banks. Steps and matrices are the same for all threads and
// come through the cache once a warp.
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/rotations/rotation_program.hpp"

namespace rotorquant::device {

inline constexpr int warp_size = 32;

// Words between rows of `dim` floats in shared memory.
__host__ __device__ constexpr int row_pitch(int dim) {
  return dim | 1;
}

struct RotationView {
  RotationProgram::Kind kind;
  int input_dim, output_dim;
  const RotationStep* steps;
  int step_count;
  const float* numbers;            // hadamard: signs; dense: matrix
  const float* transposed_matrix;  // dense

  // Rows of shared memory a vector needs: a dense product cannot be made in place.
  __host__ __device__ int rows() const { return kind == RotationProgram::Kind::dense ? 2 : 1; }
};

class DeviceRotation {
 public:
  explicit DeviceRotation(const RotationProgram& program)
      : kind_(program.kind),
        input_dim_(static_cast<int>(program.input_dim)),
        output_dim_(static_cast<int>(program.output_dim)),
        steps_(program.steps),
        numbers_(program.numbers) {
    if (kind_ != RotationProgram::Kind::dense) return;
    const auto dim = static_cast<std::size_t>(program.input_dim);
    std::vector<float> transposed(dim * dim);
    for (std::size_t i = 0; i < dim; ++i) {
      for (std::size_t j = 0; j < dim; ++j) transposed[j * dim + i] = program.numbers[i * dim + j];
    }
    transposed_ = Buffer<float>(transposed);
  }

  RotationView view() const {
    return {kind_,           input_dim_,        output_dim_, steps_.data(), static_cast<int>(steps_.size()),
            numbers_.data(), transposed_.data()};
  }

 private:
  RotationProgram::Kind kind_;
  int input_dim_, output_dim_;
  Buffer<RotationStep> steps_;
  Buffer<float> numbers_, transposed_;
};

__device__ inline void turn(const RotationStep& step, bool transpose, float* row) {
  float in[4];
  for (int i = 0; i < 4; ++i) in[i] = step.index[i] < 0 ? 0.0F : row[step.index[i]];
  for (int i = 0; i < 4; ++i) {
    if (step.index[i] < 0) break;
    float sum = 0.0F;
    for (int j = 0; j < 4; ++j) sum += step.matrix[transpose ? 4 * j + i : 4 * i + j] * in[j];
    row[step.index[i]] = sum;
  }
}

__device__ inline void hadamard_blocks(int dim, float* row) {
  for (int offset = 0; offset < dim;) {
    const int size = 1 << (31 - __clz(dim - offset));
    float* const data = row + offset;
    for (int stride = 1; stride < size; stride *= 2) {
      for (int i = 0; i < size / 2; ++i) {
        const int low = (i & ~(stride - 1)) * 2 + (i & (stride - 1));
        const float a = data[low], b = data[low + stride];
        data[low] = a + b;
        data[low + stride] = a - b;
      }
    }
    const float scale = 1.0F / sqrtf(static_cast<float>(size));
    for (int i = 0; i < size; ++i) data[i] *= scale;
    offset += size;
  }
}

// out_i = sum_j columns[j, i] in_j for one row, eight outputs at a time.
__device__ inline void multiply_row(const float* columns, int dim, const float* in, float* out) {
  for (int first = 0; first < dim; first += 8) {
    float sums[8] = {};
    for (int j = 0; j < dim; ++j) {
      const float x = in[j];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (first + i < dim) sums[i] += __ldg(columns + j * dim + first + i) * x;
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (first + i < dim) out[first + i] = sums[i];
    }
  }
}

// Rotates the thread's row (input_dim values in, output_dim out). `other` is a second row, used if
// rotation.rows() == 2. Returns the row that holds the result.
__device__ inline float* rotate(const RotationView& rotation, float* row, float* other) {
  switch (rotation.kind) {
    case RotationProgram::Kind::steps:
      for (int i = rotation.input_dim; i < rotation.output_dim; ++i) row[i] = 0.0F;
      for (int s = 0; s < rotation.step_count; ++s) turn(rotation.steps[s], false, row);
      return row;
    case RotationProgram::Kind::hadamard:
      for (int i = 0; i < rotation.input_dim; ++i) row[i] *= __ldg(rotation.numbers + i);
      hadamard_blocks(rotation.input_dim, row);
      return row;
    case RotationProgram::Kind::dense:
      multiply_row(rotation.transposed_matrix, rotation.input_dim, row, other);
      return other;
  }
  return row;
}

// The transpose: output_dim values in, input_dim out.
__device__ inline float* rotate_back(const RotationView& rotation, float* row, float* other) {
  switch (rotation.kind) {
    case RotationProgram::Kind::steps:
      for (int s = rotation.step_count - 1; s >= 0; --s) turn(rotation.steps[s], true, row);
      return row;
    case RotationProgram::Kind::hadamard:
      hadamard_blocks(rotation.input_dim, row);
      for (int i = 0; i < rotation.input_dim; ++i) row[i] *= __ldg(rotation.numbers + i);
      return row;
    case RotationProgram::Kind::dense:
      multiply_row(rotation.numbers, rotation.input_dim, row, other);
      return other;
  }
  return row;
}

}  // namespace rotorquant::device
