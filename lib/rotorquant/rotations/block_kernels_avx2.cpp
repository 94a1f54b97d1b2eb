// Products of rows by small blocks, eight coordinates at a time: the other coordinates of blocks of two and
// four are a register permuted, those of blocks of three loads from up to two places away, blended.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/rotations/row_ends_avx2.hpp"

namespace rotorquant {
namespace {

using avx2::lanes;
using avx2::PlainSink;
using avx2::PlaneRows;
using avx2::RowBuffer;
using avx2::RowSource;
using avx2::ScaledRows;
using avx2::UnitRows;

// The lanes of register 8 phase + lane of blocks of three whose j-th factor lies `distance` behind them, as an
// immediate of blends.
constexpr int lanes_at(int phase, int j, int distance) {
  int mask = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    const int c = (8 * phase + lane) % 3;
    if (block_factor(c, j) - c == distance) mask |= 1 << lane;
  }
  return mask;
}

// Factor j of the coordinates at x, which are register `phase` of three if blocks are of three.
template <int block, int phase, int j>
ROTORQUANT_AVX2_INLINE __m256 factor_of(const float* x) {
  if constexpr (j == 0) {
    return _mm256_load_ps(x);
  } else if constexpr (block == 3) {
    // 1, -1 or -2 places away; or 2, 1 or -1.
    constexpr int farthest = j == 1 ? -2 : 2;
    const __m256 near =
        _mm256_blend_ps(_mm256_loadu_ps(x - 1), _mm256_loadu_ps(x + 1), lanes_at(phase, j, 1));
    return _mm256_blend_ps(near, _mm256_loadu_ps(x + farthest), lanes_at(phase, j, farthest));
  } else {
    constexpr auto place = [](int lane) { return lane / block * block + block_factor(lane % block, j); };
    constexpr int control = place(0) | place(1) << 2 | place(2) << 4 | place(3) << 6;
    return _mm256_permute_ps(_mm256_load_ps(x), control);
  }
}

// Eight coordinates of each row: the sum of their factors in order, times the coefficients.
template <int block, int phase, int rows>
ROTORQUANT_AVX2_INLINE void turn(const float* coefficients, const float* const (&x)[rows], std::int64_t c,
                                 __m256 (&sums)[rows]) {
  const auto add = [&]<int j>() ROTORQUANT_AVX2_LAMBDA {
    const __m256 coefficient = _mm256_load_ps(coefficients + 16 * j);
    for (int r = 0; r < rows; ++r) {
      const __m256 product = _mm256_mul_ps(coefficient, (factor_of<block, phase, j>(x[r] + c)));
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
  const std::int64_t output_dim = sink.cols;
  const float* x[rows];
  typename Sink::Row out[rows];
  for (int r = 0; r < rows; ++r) {
    // A last row without companions is turned twice.
    x[r] = buffer.row(std::min(first + r, last));
    out[r] = sink.row(std::min(first + r, last));
  }
  const auto coefficients = [&](std::int64_t c) ROTORQUANT_AVX2_LAMBDA {
    return plan.coefficients.data()->values.data() + c / 16 * (16 * block) + c % 16;
  };
  __m256 y[rows];
  const auto put = [&]<int phase>(std::int64_t c) ROTORQUANT_AVX2_LAMBDA {
    turn<block, phase, rows>(coefficients(c), x, c, y);
    for (int r = 0; r < rows; ++r) out[r].store(to, c, y[r]);
  };
  const auto put_part = [&]<int phase>(std::int64_t c) ROTORQUANT_AVX2_LAMBDA {
    turn<block, phase, rows>(coefficients(c), x, c, y);
    for (int r = 0; r < rows; ++r) out[r].store(to, c, y[r], output_dim - c);
  };
  std::int64_t c = 0;
  if constexpr (block == 3) {
    for (; c + 3 * lanes <= output_dim; c += 3 * lanes) {
      put.template operator()<0>(c);
      put.template operator()<1>(c + lanes);
      put.template operator()<2>(c + 2 * lanes);
    }
    const std::int64_t whole = (output_dim - c) / lanes;
    if (whole > 0) put.template operator()<0>(c);
    if (whole > 1) put.template operator()<1>(c + lanes);
    if ((output_dim - c) % lanes == 0) return;
    if (whole == 0) put_part.template operator()<0>(c);
    if (whole == 1) put_part.template operator()<1>(c + lanes);
    if (whole == 2) put_part.template operator()<2>(c + 2 * lanes);
  } else {
    for (; c + lanes <= output_dim; c += lanes) put.template operator()<0>(c);
    if (c < output_dim) put_part.template operator()<0>(c);
  }
}

// By value: what is written to memory cannot change the sink then.
template <int block, typename Sink>
ROTORQUANT_AVX2 void block_rows(const BlockPlan& plan, const RowSource& source, const Sink sink) {
  constexpr int together = 2;
  const std::int64_t rows = source.rows();
  const RowBuffer buffer(source.cols(), sink.cols);
  const typename Sink::Constants to = sink.constants();
  avx2::for_each_filled<together>(source, buffer, [&](std::int64_t r) ROTORQUANT_AVX2_LAMBDA {
    turn_rows<block, together>(plan, buffer, r, rows - 1, sink, to);
  });
}

template <typename Sink>
void any_block_rows(const BlockPlan& plan, const RowSource& source, const Sink& sink) {
  if (plan.block == 2) return block_rows<2>(plan, source, sink);
  if (plan.block == 3) return block_rows<3>(plan, source, sink);
  block_rows<4>(plan, source, sink);
}

}  // namespace

void block_rows_avx2(const BlockPlan& plan, HostView<const float> x, HostView<float> y) {
  any_block_rows(plan, ScaledRows(x), PlainSink{y.data, y.cols});
}

void block_rows_avx2(const BlockPlan& plan, const ConstHostTensor& x, const float* factors,
                     HostView<float> y) {
  any_block_rows(plan, ScaledRows(x, factors), PlainSink{y.data, y.cols});
}

void block_rows_avx2(const BlockPlan& plan, const ConstHostTensor& x, float* norms,
                     const PlaneCodebook& codebook, std::uint8_t* planes) {
  avx2::with_plane_sink(planes, codebook, plan.output_dim,
                        [&](const auto& sink) { any_block_rows(plan, UnitRows(x, norms), sink); });
}

void block_rows_avx2(const BlockPlan& plan, HostView<const float> x, const float* factors, bool stream,
                     const HostTensor& y) {
  avx2::with_sink(y, factors, stream, [&](const auto& sink) { any_block_rows(plan, ScaledRows(x), sink); });
}

void block_rows_avx2(const BlockPlan& plan, const std::uint8_t* planes, const PlaneCodebook& codebook,
                     const float* factors, bool stream, const HostTensor& y) {
  const PlaneRows source(planes, codebook, y.rows, plan.input_dim);
  avx2::with_sink(y, factors, stream, [&](const auto& sink) { any_block_rows(plan, source, sink); });
}

}  // namespace rotorquant
#endif
