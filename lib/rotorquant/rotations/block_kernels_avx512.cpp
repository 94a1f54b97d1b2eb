// Products of rows by small blocks: every factor is one or two registers permuted.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/rotations/row_ends_avx512.hpp"

namespace rotorquant {
namespace {

using avx512::lanes;
using avx512::lanes_below;

// Blocks of 2 and 4 lie in one register, 16 blocks of 3 in three.
template <int block>
constexpr int registers_of = block == 3 ? 3 : 1;

// Entry [k, j, lane]: where the j-th factor of output 16 k + lane of blocks of three lies, counted from
// register first[k][j]; it does not reach beyond the register after that.
struct TriplePlaces {
  alignas(64) std::int32_t values[3][3][16];
  int first[3][3];

  constexpr TriplePlaces() : values(), first() {
    for (int k = 0; k < 3; ++k) {
      for (int j = 0; j < 3; ++j) {
        first[k][j] = 2;
        for (int lane = 0; lane < 16; ++lane) {
          const int c = 16 * k + lane;
          values[k][j][lane] = c / 3 * 3 + block_factor(c % 3, j);
          first[k][j] = std::min(first[k][j], values[k][j][lane] / 16);
        }
        for (std::int32_t& place : values[k][j]) place -= 16 * first[k][j];
      }
    }
  }
};
constexpr TriplePlaces triple_places;

// Factor j of the outputs of register k; factor 0 is the coordinate itself.
template <int block, int k, int j>
ROTORQUANT_AVX512_INLINE __m512 factor_of(const __m512 (&x)[registers_of<block>]) {
  if constexpr (j == 0) {
    return x[k];
  } else if constexpr (block == 3) {
    constexpr int first = triple_places.first[k][j];
    return _mm512_permutex2var_ps(x[first], _mm512_load_si512(triple_places.values[k][j]), x[first + 1]);
  } else {
    constexpr auto place = [](int lane) { return lane / block * block + block_factor(lane % block, j); };
    constexpr int control = place(0) | place(1) << 2 | place(2) << 4 | place(3) << 6;
    return _mm512_permute_ps(x[k], control);
  }
}

// Output register k of each row: the sum of its factors in order, times the coefficients [block] of its
// lanes.
template <int block, int k, int rows>
ROTORQUANT_AVX512_INLINE void turn(const BlockPlan::Sixteen* coefficients,
                                   const __m512 (&x)[rows][registers_of<block>], __m512 (&sums)[rows]) {
  const auto add = [&]<int j>() ROTORQUANT_AVX512_LAMBDA {
    const __m512 coefficient = _mm512_load_ps(coefficients + j);
    for (int r = 0; r < rows; ++r) {
      const __m512 product = _mm512_mul_ps(coefficient, (factor_of<block, k, j>(x[r])));
      sums[r] = j == 0 ? product : _mm512_add_ps(sums[r], product);
    }
  };
  add.template operator()<0>();
  add.template operator()<1>();
  if constexpr (block >= 3) add.template operator()<2>();
  if constexpr (block >= 4) add.template operator()<3>();
}

// Rows [first, first + rows).
template <int block, int rows, typename Source, typename Sink>
ROTORQUANT_AVX512_INLINE void turn_rows(const BlockPlan& plan, const Source& source, std::int64_t first,
                                        const Sink& sink, const typename Sink::Constants& to) {
  constexpr int registers = registers_of<block>;
  typename Source::Row in[rows];
  typename Sink::Row out[rows];
  for (int r = 0; r < rows; ++r) {
    // A last row without companions is turned twice.
    in[r] = source.row(std::min(first + r, source.rows - 1));
    out[r] = sink.row(std::min(first + r, source.rows - 1));
  }
  const std::int64_t input_dim = source.cols;
  const std::int64_t output_dim = sink.cols;
  const std::int64_t chunks = (output_dim + lanes - 1) / lanes;
  const std::int64_t whole = std::min(input_dim, output_dim) / lanes;
  const BlockPlan::Sixteen* coefficients = plan.coefficients.data();
  __m512 x[rows][registers];
  __m512 y[rows];
  std::int64_t chunk = 0;
  const auto put = [&]<int k>() ROTORQUANT_AVX512_LAMBDA {
    turn<block, k, rows>(coefficients + k * block, x, y);
    for (int r = 0; r < rows; ++r) out[r].store(to, chunk + k, y[r]);
  };
  const auto step = [&]() ROTORQUANT_AVX512_LAMBDA {
    for (int r = 0; r < rows; ++r) {
      for (int k = 0; k < registers; ++k) x[r][k] = in[r].load(chunk + k);
    }
    put.template operator()<0>();
    if constexpr (registers > 1) put.template operator()<1>();
    if constexpr (registers > 2) put.template operator()<2>();
    chunk += registers;
    coefficients += registers * block;
  };
  if constexpr (std::is_same_v<decltype(source.cols), std::int64_t>) {
    while (chunk + registers <= whole) step();
  } else {
#pragma GCC unroll 16
    while (chunk + registers <= whole) step();
  }
  if (chunk == chunks) return;
  // What is left: `full` whole chunks and the row's end.
  const auto finish = [&]<int full>() ROTORQUANT_AVX512_LAMBDA {
    for (int k = 0; k < registers; ++k) {
      const std::int64_t left = std::max<std::int64_t>(0, input_dim - (chunk + k) * lanes);
      for (int r = 0; r < rows; ++r) {
        x[r][k] = k < full    ? in[r].load(chunk + k)
                  : left == 0 ? _mm512_setzero_ps()
                              : in[r].load(chunk + k, lanes_below(left));
      }
    }
    if constexpr (full > 0) put.template operator()<0>();
    if constexpr (full > 1) put.template operator()<1>();
    const auto put_part = [&]<int k>() ROTORQUANT_AVX512_LAMBDA {
      if (chunk + k >= chunks) return;
      turn<block, k, rows>(coefficients + k * block, x, y);
      const __mmask16 mask = lanes_below(output_dim - (chunk + k) * lanes);
      for (int r = 0; r < rows; ++r) out[r].store(to, chunk + k, mask, y[r]);
    };
    put_part.template operator()<full>();
    // Padding may begin another chunk.
    if constexpr (full + 1 < registers) put_part.template operator()<full + 1>();
  };
  if constexpr (registers == 3) {
    if (whole - chunk == 2) return finish.template operator()<2>();
    if (whole - chunk == 1) return finish.template operator()<1>();
  }
  finish.template operator()<0>();
}

// By value: what is written to memory cannot change the ends then.
template <int block, typename Source, typename Sink>
ROTORQUANT_AVX512 void block_rows(const BlockPlan& plan, const Source source, const Sink sink) {
  constexpr int together = 4;
  static_assert(together == avx512::measured_rows);
  const typename Sink::Constants to = sink.constants();
  avx512::prepare(source, 0);
  for (std::int64_t r = 0; r < source.rows; r += together) {
    avx512::prepare(source, r + together);
    turn_rows<block, together>(plan, source, r, sink, to);
  }
}

template <typename Source, typename Sink>
void any_block_rows(const BlockPlan& plan, const Source& source, const Sink& sink) {
  if (plan.block == 2) return block_rows<2>(plan, source, sink);
  if (plan.block == 3) return block_rows<3>(plan, source, sink);
  block_rows<4>(plan, source, sink);
}

// body(input dim, output dim); constants at the dimension of most models' heads.
template <typename Body>
void with_extents(const BlockPlan& plan, const Body& body) {
  constexpr std::integral_constant<std::int64_t, 128> usual;
  if (plan.input_dim == usual && plan.output_dim == usual) return body(usual, usual);
  body(plan.input_dim, plan.output_dim);
}

}  // namespace

void block_rows_avx512(const BlockPlan& plan, HostView<const float> x, HostView<float> y) {
  any_block_rows(plan, avx512::PlainSource{x.data, x.rows, x.cols}, avx512::PlainSink{y.data, y.cols});
}

void block_rows_avx512(const BlockPlan& plan, const ConstHostTensor& x, const float* factors,
                       HostView<float> y) {
  avx512::with_source(x, factors, [&](const auto& source) {
    any_block_rows(plan, source, avx512::PlainSink{y.data, y.cols});
  });
}

void block_rows_avx512(const BlockPlan& plan, const ConstHostTensor& x, float* norms,
                       const PlaneCodebook& codebook, std::uint8_t* planes) {
  with_extents(plan, [&](auto input_dim, auto output_dim) {
    avx512::with_unit_source(x, input_dim, norms, [&](const auto& source) {
      avx512::with_plane_bits(codebook, [&](auto bits) {
        using Sink = avx512::PlaneSink<bits(), decltype(output_dim)>;
        any_block_rows(plan, source, Sink{planes, &codebook, output_dim});
      });
    });
  });
}

void block_rows_avx512(const BlockPlan& plan, HostView<const float> x, const float* factors, bool stream,
                       const HostTensor& y) {
  avx512::with_sink(y, y.cols, factors, stream, [&](const auto& sink) {
    any_block_rows(plan, avx512::PlainSource{x.data, x.rows, x.cols}, sink);
  });
}

void block_rows_avx512(const BlockPlan& plan, const std::uint8_t* nibbles, const PlaneCodebook& codebook,
                       const float* factors, bool stream, const HostTensor& y) {
  with_extents(plan, [&](auto input_dim, auto output_dim) {
    const avx512::NibbleSource<decltype(input_dim)> source{nibbles, &codebook, y.rows, input_dim};
    avx512::with_sink(y, output_dim, factors, stream,
                      [&](const auto& sink) { any_block_rows(plan, source, sink); });
  });
}

}  // namespace rotorquant
#endif
