#include "rotorquant/rotations/block_rotation.hpp"

#include <algorithm>

#include "rotorquant/codes/plane_nibbles.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

// Row i of m times the block whose coordinate c is read(c).
template <int block, typename Read>
float multiply_row(const std::array<float, static_cast<std::size_t>(block* block)>& m, int i,
                   const Read& read) {
  const float* row = m.data() + block * i;
  float sum = row[i] * read(i);
  for (int j = 1; j < block; ++j) sum += row[block_factor(i, j)] * read(block_factor(i, j));
  return sum;
}

// in [n, in_cols] -> out [n, out_cols], matrices [whole blocks (+ 1)].
template <int block, typename Matrix>
void multiply_rows(const std::vector<Matrix>& matrices, HostView<const float> in, HostView<float> out) {
  const auto whole = static_cast<std::size_t>(std::min(in.cols, out.cols) / block);
  const auto first_left = static_cast<std::int64_t>(whole) * block;
  for (std::int64_t r = 0; r < in.rows; ++r) {
    const float* x = in.row(r);
    float* y = out.row(r);
    for (std::size_t g = 0; g < whole; ++g) {
      const float* from = x + block * g;
      for (int i = 0; i < block; ++i)
        y[block * g + static_cast<std::size_t>(i)] =
            multiply_row<block>(matrices[g], i, [&](int c) { return from[c]; });
    }
    if (matrices.size() > whole) {
      const auto padded = [&](int c) { return first_left + c < in.cols ? x[first_left + c] : 0.0F; };
      for (int i = 0; first_left + i < out.cols; ++i)
        y[first_left + i] = multiply_row<block>(matrices[whole], i, padded);
    } else {
      std::copy(x + first_left, x + in.cols, y + first_left);
    }
  }
}

template <int block, typename Matrix>
BlockPlan make_plan(const std::vector<Matrix>& matrices, std::int64_t input_dim, std::int64_t output_dim) {
  constexpr std::int64_t lanes = 16;
  BlockPlan plan;
  plan.block = block;
  plan.input_dim = input_dim;
  plan.output_dim = output_dim;
  for (std::int64_t chunk = 0; chunk * lanes < output_dim; ++chunk) {
    std::array<BlockPlan::Sixteen, block> coefficients{};
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      const std::int64_t c = chunk * lanes + lane;
      const auto row = static_cast<std::size_t>(c % block);
      const auto group = static_cast<std::size_t>(c / block);
      for (std::size_t j = 0; j < block; ++j) {
        const auto place = static_cast<std::size_t>(block_factor(static_cast<int>(row), static_cast<int>(j)));
        coefficients[j].values[static_cast<std::size_t>(lane)] =
            group < matrices.size() ? matrices[group][block * row + place] : (j == 0 ? 1.0F : 0.0F);
      }
    }
    plan.coefficients.insert(plan.coefficients.end(), coefficients.begin(), coefficients.end());
  }
  return plan;
}

}  // namespace

template <int block>
std::int64_t rotated_block_count(std::int64_t dim, Tail tail) {
  const bool left_over = tail == Tail::pad ? dim % block != 0 : (block == 3 && dim % 3 == 2);
  return dim / block + (left_over ? 1 : 0);
}

template <int block>
BlockRotation<block>::BlockRotation(std::int64_t dim, Tail tail, const std::vector<Matrix>& matrices,
                                    std::int64_t stored_floats, Isa isa)
    : dim_(dim),
      output_dim_(tail == Tail::pad ? (dim + block - 1) / block * block : dim),
      stored_floats_(stored_floats),
      matrices_(matrices),
      isa_(isa) {
  const std::int64_t expected = rotated_block_count<block>(dim, tail);
  if (static_cast<std::int64_t>(matrices.size()) != expected) {
    throw Error("rotation by blocks of " + std::to_string(block) + ": " + std::to_string(matrices.size()) +
                " blocks given for dim " + std::to_string(dim) + "; valid: " + std::to_string(expected));
  }
  for (const Matrix& m : matrices) {
    Matrix transposed{};
    for (std::size_t i = 0; i < block; ++i) {
      for (std::size_t j = 0; j < block; ++j) transposed[block * j + i] = m[block * i + j];
    }
    transposes_.push_back(transposed);
  }
  forward_ = make_plan<block>(matrices_, dim_, output_dim_);
  backward_ = make_plan<block>(transposes_, output_dim_, dim_);
}

template <int block>
void BlockRotation<block>::apply(HostView<const float> x, HostView<float> y) const {
#if defined(__x86_64__)
  if (isa_ == Isa::avx512) return block_rows_avx512(forward_, x, y);
  if (isa_ == Isa::avx2) return block_rows_avx2(forward_, x, y);
#endif
  multiply_rows<block>(matrices_, x, y);
}

template <int block>
void BlockRotation<block>::apply_transpose(HostView<const float> y, HostView<float> x) const {
#if defined(__x86_64__)
  if (isa_ == Isa::avx512) return block_rows_avx512(backward_, y, x);
  if (isa_ == Isa::avx2) return block_rows_avx2(backward_, y, x);
#endif
  multiply_rows<block>(transposes_, y, x);
}

template <int block>
void BlockRotation<block>::apply_scaled(const ConstHostTensor& x, const float* factors,
                                        HostView<float> y) const {
#if defined(__x86_64__)
  if (isa_ == Isa::avx512) return block_rows_avx512(forward_, x, factors, y);
  if (isa_ == Isa::avx2) return block_rows_avx2(forward_, x, factors, y);
#endif
  Rotation::apply_scaled(x, factors, y);
}

template <int block>
void BlockRotation<block>::apply_transpose_scaled(HostView<const float> y, const float* factors, bool stream,
                                                  const HostTensor& x) const {
#if defined(__x86_64__)
  if (isa_ == Isa::avx512) return block_rows_avx512(backward_, y, factors, stream, x);
  if (isa_ == Isa::avx2) return block_rows_avx2(backward_, y, factors, stream, x);
#endif
  Rotation::apply_transpose_scaled(y, factors, stream, x);
}

template <int block>
bool BlockRotation<block>::unit_rows_to_planes(const ConstHostTensor& x, float* norms,
                                               const PlaneCodebook& codebook, std::uint8_t* planes) const {
#if defined(__x86_64__)
  if (isa_ == Isa::avx512 && x.type != ElementType::float32) {
    block_rows_avx512(forward_, x, norms, codebook, planes);
    return true;
  }
  if (isa_ == Isa::avx2 && x.type != ElementType::float32) {
    block_rows_avx2(forward_, x, norms, codebook, planes);
    return true;
  }
#endif
  return Rotation::unit_rows_to_planes(x, norms, codebook, planes);
}

template <int block>
bool BlockRotation<block>::apply_transpose_of_planes(const std::uint8_t* planes,
                                                     const PlaneCodebook& codebook, const float* factors,
                                                     bool stream, const HostTensor& x) const {
#if defined(__x86_64__)
  if (nibbles_supported(isa_)) {
    const std::uint8_t* nibbles = nibbles_of_planes(codebook.bits, planes, x.rows, output_dim_);
    block_rows_avx512(backward_, nibbles, codebook, factors, stream, x);
    return true;
  }
  if (isa_ == Isa::avx2) {
    block_rows_avx2(backward_, planes, codebook, factors, stream, x);
    return true;
  }
#endif
  return Rotation::apply_transpose_of_planes(planes, codebook, factors, stream, x);
}

template <int block>
RotationProgram BlockRotation<block>::program() const {
  RotationProgram program{RotationProgram::Kind::steps, dim_, output_dim_, {}, {}};
  program.diagonal_first = true;
  for (std::size_t g = 0; g < matrices_.size(); ++g) {
    const auto first = static_cast<std::int64_t>(g) * block;
    // A left-over pair of a rotor rotation: its matrix keeps the third coordinate apart.
    const std::int64_t size = std::min<std::int64_t>(block, output_dim_ - first);
    RotationStep& step = program.steps.emplace_back(RotationStep{{-1, -1, -1, -1}, {}});
    for (std::int64_t i = 0; i < size; ++i) {
      step.index[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(first + i);
      for (std::int64_t j = 0; j < size; ++j) {
        step.matrix[static_cast<std::size_t>(4 * i + j)] =
            matrices_[g][static_cast<std::size_t>(block * i + j)];
      }
    }
  }
  return program;
}

template class BlockRotation<2>;
template class BlockRotation<3>;
template class BlockRotation<4>;
template std::int64_t rotated_block_count<2>(std::int64_t, Tail);
template std::int64_t rotated_block_count<3>(std::int64_t, Tail);
template std::int64_t rotated_block_count<4>(std::int64_t, Tail);

}  // namespace rotorquant
