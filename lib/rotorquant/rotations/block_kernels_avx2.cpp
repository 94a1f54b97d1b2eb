// Products of rows by small blocks, eight coordinates at a time: the other coordinates of blocks of two and
// four are a register permuted, those of blocks of three loads from up to two places away, blended.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/rotations/row_ends_avx2.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

// The lanes of register 8 phase + lane of blocks of three whose j-th factor lies `distance` behind them, as
// an immediate of blends.
constexpr int lanes_at(int phase, int j, int distance) {
  int mask = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    const int c = (8 * phase + lane) % 3;
    if (block_factor(c, j) - c == distance) mask |= 1 << lane;
  }
  return mask;
}

// A row in a buffer, and its copy if it has one.
struct Place {
  const float* row;
  const float* copy;
};

// Eight coordinates that lie `distance` behind those of register k, from where they lie in one line.
template <int k, int distance>
ROTORQUANT_AVX2_INLINE __m256 load_behind(const Place& x) {
  return _mm256_loadu_ps((k % 2 == (distance < 0) ? x.row : x.copy) + k * lanes + distance);
}

// Factor j of the coordinates of register k.
template <int block, int k, int j>
ROTORQUANT_AVX2_INLINE __m256 factor_of(const Place& x) {
  if constexpr (j == 0) {
    return _mm256_load_ps(x.row + k * lanes);
  } else if constexpr (block == 3) {
    // 1, -1 or -2 places away; or 2, 1 or -1.
    constexpr int farthest = j == 1 ? -2 : 2;
    const __m256 near = _mm256_blend_ps(load_behind<k, -1>(x), load_behind<k, 1>(x), lanes_at(k % 3, j, 1));
    return _mm256_blend_ps(near, load_behind<k, farthest>(x), lanes_at(k % 3, j, farthest));
  } else {
    constexpr auto place = [](int lane) { return lane / block * block + block_factor(lane % block, j); };
    constexpr int control = place(0) | place(1) << 2 | place(2) << 4 | place(3) << 6;
    return _mm256_permute_ps(_mm256_load_ps(x.row + k * lanes), control);
  }
}

// Registers and chunks of sixteen coefficients begin together again after this many registers, blocks of
// three too.
constexpr int period = 6;

// Register k of a period of each row: the sum of its factors in order, times the coefficients.
template <int block, int k, int rows>
ROTORQUANT_AVX2_INLINE void turn(const float* coefficients, const Place (&x)[rows], __m256 (&sums)[rows]) {
  const auto add = [&]<int j>() ROTORQUANT_AVX2_LAMBDA {
    const __m256 coefficient = _mm256_load_ps(coefficients + k / 2 * 16 * block + 16 * j + k % 2 * lanes);
    for (int r = 0; r < rows; ++r) {
      const __m256 product = _mm256_mul_ps(coefficient, (factor_of<block, k, j>(x[r])));
      sums[r] = j == 0 ? product : _mm256_add_ps(sums[r], product);
    }
  };
  add.template operator()<0>();
  add.template operator()<1>();
  if constexpr (block >= 3) add.template operator()<2>();
  if constexpr (block >= 4) add.template operator()<3>();
}

// Rows [first, first + rows), or as many of them as there are.
template <int block, int rows, typename Sink>
ROTORQUANT_AVX2_INLINE void turn_rows(const BlockPlan& plan, const RowBuffer& buffer, std::int64_t first,
                                      std::int64_t last, const Sink& sink,
                                      const typename Sink::Constants& to) {
  const float* coefficients = plan.coefficients.data()->values.data();
  Place x[rows];
  typename Sink::Row out[rows];
  for (int r = 0; r < rows; ++r) {
    // A last row without companions is turned twice.
    const float* row = buffer.row(std::min(first + r, last));
    x[r] = {row, row + buffer.copy()};
    out[r] = sink.row(std::min(first + r, last));
  }
  const auto put = [&]<int k>() ROTORQUANT_AVX2_LAMBDA {
    __m256 y[2][rows];
    turn<block, k, rows>(coefficients, x, y[0]);
    turn<block, k + 1, rows>(coefficients, x, y[1]);
    for (int r = 0; r < rows; ++r) out[r].store(to, k, y[0][r], y[1][r]);
  };
  std::int64_t left = sink.cols;
  for (; left >= period * lanes; left -= period * lanes) {
    put.template operator()<0>();
    put.template operator()<2>();
    put.template operator()<4>();
    coefficients += period / 2 * 16 * block;
    for (int r = 0; r < rows; ++r) {
      x[r].row += period * lanes;
      x[r].copy += period * lanes;
      out[r].advance(period);
    }
  }
  const auto put_part = [&]<int k>() ROTORQUANT_AVX2_LAMBDA {
    if (left <= k * lanes) return;
    __m256 y[rows];
    turn<block, k, rows>(coefficients, x, y);
    for (int r = 0; r < rows; ++r) out[r].store(to, k, y[r], std::min(left - k * lanes, lanes));
  };
  const auto put_rest = [&]<int k>() ROTORQUANT_AVX2_LAMBDA {
    if (left >= (k + 2) * lanes) return put.template operator()<k>();
    put_part.template operator()<k>();
    put_part.template operator()<k + 1>();
  };
  put_rest.template operator()<0>();
  put_rest.template operator()<2>();
  put_rest.template operator()<4>();
}

// By value: what is written to memory cannot change the sink then.
template <int block, typename Sink>
ROTORQUANT_AVX2 void block_rows(const BlockPlan& plan, RowSource& source, const Sink sink) {
  constexpr int together = 2;
  const std::int64_t rows = source.rows();
  const RowBuffer buffer(source.cols(), sink.cols, block == 3);
  const typename Sink::Constants to = sink.constants();
  avx2::for_each_filled<together>(source, buffer, [&](std::int64_t r) ROTORQUANT_AVX2_LAMBDA {
    turn_rows<block, together>(plan, buffer, r, rows - 1, sink, to);
  });
}

template <typename Sink>
void any_block_rows(const BlockPlan& plan, RowSource& source, const Sink& sink) {
  if (plan.block == 2) return block_rows<2>(plan, source, sink);
  if (plan.block == 3) return block_rows<3>(plan, source, sink);
  block_rows<4>(plan, source, sink);
}

}  // namespace

void block_rows_avx2(const BlockPlan& plan, HostView<const float> x, HostView<float> y) {
  ScaledRows source(x);
  any_block_rows(plan, source, PlainSink{y.data, y.cols});
}

void block_rows_avx2(const BlockPlan& plan, const ConstHostTensor& x, const float* factors,
                     HostView<float> y) {
  ScaledRows source(x, factors);
  any_block_rows(plan, source, PlainSink{y.data, y.cols});
}

void block_rows_avx2(const BlockPlan& plan, const ConstHostTensor& x, float* norms,
                     const PlaneCodebook& codebook, std::uint8_t* planes) {
  UnitRows source(x, norms);
  avx2::with_plane_sink(planes, codebook, plan.output_dim,
                        [&](const auto& sink) { any_block_rows(plan, source, sink); });
}

void block_rows_avx2(const BlockPlan& plan, HostView<const float> x, const float* factors, bool stream,
                     const HostTensor& y) {
  ScaledRows source(x);
  avx2::with_sink(y, factors, stream, [&](const auto& sink) { any_block_rows(plan, source, sink); });
}

void block_rows_avx2(const BlockPlan& plan, const std::uint8_t* planes, const PlaneCodebook& codebook,
                     const float* factors, bool stream, const HostTensor& y) {
  PlaneRows source(planes, codebook, y.rows, plan.input_dim);
  avx2::with_sink(y, factors, stream, [&](const auto& sink) { any_block_rows(plan, source, sink); });
}

}  // namespace rotorquant
#endif
