#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <cmath>

#include "rotorquant/core/avx512.hpp"

namespace rotorquant {
namespace {

using avx512::lanes;
using avx512::lanes_below;

// `rows` rows of one chunk of 16 outputs. Inputs beyond input_dim count as zeros.
template <int block, int rows, bool inside>
ROTORQUANT_AVX512_INLINE void block_chunk(const BlockPlan& plan, std::int64_t chunk, const float* x,
                                          float* y) {
  const __m512i places = _mm512_load_si512(&plan.places[static_cast<std::size_t>(chunk)]);
  const std::int64_t window = plan.windows[static_cast<std::size_t>(chunk)];
  const auto* coefficients = plan.coefficients.data() + chunk * block;
  __m512 sums[rows];
  for (int j = 0; j < block; ++j) {
    const __m512 coefficient = _mm512_load_ps(coefficients + j);
    const std::int64_t first = window + j;
    for (int r = 0; r < rows; ++r) {
      const float* row = x + r * plan.input_dim;
      const __m512 values =
          inside ? _mm512_loadu_ps(row + first)
                 : _mm512_maskz_loadu_ps(lanes_below(std::max<std::int64_t>(0, plan.input_dim - first)),
                                         row + first);
      const __m512 product = _mm512_mul_ps(coefficient, _mm512_permutexvar_ps(places, values));
      sums[r] = j == 0 ? product : _mm512_add_ps(sums[r], product);
    }
  }
  const std::int64_t left = plan.output_dim - chunk * lanes;
  for (int r = 0; r < rows; ++r) {
    float* out = y + r * plan.output_dim + chunk * lanes;
    if (left >= lanes) {
      _mm512_storeu_ps(out, sums[r]);
    } else {
      _mm512_mask_storeu_ps(out, lanes_below(left), sums[r]);
    }
  }
}

template <int block, int rows>
ROTORQUANT_AVX512_INLINE void block_row_group(const BlockPlan& plan, const float* x, float* y) {
  const auto chunks = static_cast<std::int64_t>(plan.windows.size());
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const std::int64_t last = plan.windows[static_cast<std::size_t>(chunk)] + block - 1 + lanes;
    if (last <= plan.input_dim) {
      block_chunk<block, rows, true>(plan, chunk, x, y);
    } else {
      block_chunk<block, rows, false>(plan, chunk, x, y);
    }
  }
}

// Blocks of three: 48 coordinates are 16 whole blocks in three registers, so that every factor is one or two
// registers permuted. Entry [k, j, lane]: factor j of output 16 k + lane, counted from the first coordinate of
// the first register it may lie in.
struct TriplePlaces {
  alignas(64) std::int32_t values[3][3][16];

  constexpr TriplePlaces() : values() {
    constexpr int first_register[3][3] = {{0, 0, 0}, {0, 1, 1}, {1, 1, 2}};
    for (int k = 0; k < 3; ++k) {
      for (int j = 0; j < 3; ++j) {
        for (int lane = 0; lane < 16; ++lane)
          values[k][j][lane] = (16 * k + lane) / 3 * 3 + j - 16 * first_register[k][j];
      }
    }
  }
};
constexpr TriplePlaces triple_places;

// Output register k of 48 coordinates.
template <int k, int rows>
ROTORQUANT_AVX512_INLINE void triple_chunk(const BlockPlan& plan, std::int64_t chunk,
                                           const __m512 (&x)[rows][3], float* y) {
  const auto* coefficients = plan.coefficients.data() + chunk * 3;
  __m512 sums[rows];
  for (int j = 0; j < 3; ++j) {
    const __m512i places = _mm512_load_si512(triple_places.values[k][j]);
    const __m512 coefficient = _mm512_load_ps(coefficients + j);
    for (int r = 0; r < rows; ++r) {
      __m512 factor;
      if (k == j) {
        factor = _mm512_permutexvar_ps(places, x[r][k]);
      } else if (k + j < 2 || (k == 0 && j == 2)) {
        factor = _mm512_permutex2var_ps(x[r][0], places, x[r][1]);
      } else {
        factor = _mm512_permutex2var_ps(x[r][1], places, x[r][2]);
      }
      const __m512 product = _mm512_mul_ps(coefficient, factor);
      sums[r] = j == 0 ? product : _mm512_add_ps(sums[r], product);
    }
  }
  const std::int64_t left = plan.output_dim - chunk * lanes;
  for (int r = 0; r < rows; ++r) {
    float* out = y + r * plan.output_dim + chunk * lanes;
    if (left >= lanes) {
      _mm512_storeu_ps(out, sums[r]);
    } else {
      _mm512_mask_storeu_ps(out, lanes_below(left), sums[r]);
    }
  }
}

template <int rows>
ROTORQUANT_AVX512_INLINE void triple_row_group(const BlockPlan& plan, const float* x, float* y) {
  const auto chunks = static_cast<std::int64_t>(plan.windows.size());
  for (std::int64_t chunk = 0; chunk < chunks; chunk += 3) {
    const std::int64_t left = plan.input_dim - chunk * lanes;
    __m512 values[rows][3];
    for (int r = 0; r < rows; ++r) {
      const float* row = x + r * plan.input_dim + chunk * lanes;
      for (int k = 0; k < 3; ++k) {
        values[r][k] = left >= (k + 1) * lanes
                           ? _mm512_loadu_ps(row + k * lanes)
                           : _mm512_maskz_loadu_ps(lanes_below(std::max<std::int64_t>(0, left - k * lanes)),
                                                   row + k * lanes);
      }
    }
    triple_chunk<0>(plan, chunk, values, y);
    if (chunk + 1 < chunks) triple_chunk<1>(plan, chunk + 1, values, y);
    if (chunk + 2 < chunks) triple_chunk<2>(plan, chunk + 2, values, y);
  }
}

template <int block>
ROTORQUANT_AVX512 void block_rows(const BlockPlan& plan, HostView<const float> x, HostView<float> y) {
  constexpr int together = 4;
  std::int64_t r = 0;
  for (; r + together <= x.rows; r += together) {
    if constexpr (block == 3) {
      triple_row_group<together>(plan, x.row(r), y.row(r));
    } else {
      block_row_group<block, together>(plan, x.row(r), y.row(r));
    }
  }
  for (; r < x.rows; ++r) {
    if constexpr (block == 3) {
      triple_row_group<1>(plan, x.row(r), y.row(r));
    } else {
      block_row_group<block, 1>(plan, x.row(r), y.row(r));
    }
  }
}

// One level of the transform inside a register: each lane's partner is `distance` lanes away; the lower of the
// two takes a + b, the upper a - b. Multiplying by +-1 is exact, so that the fused operation rounds like a sum.
template <int distance>
ROTORQUANT_AVX512_INLINE __m512 butterfly(__m512 x) {
  __m512 partner;
  if constexpr (distance == 1) partner = _mm512_permute_ps(x, 0xB1);
  if constexpr (distance == 2) partner = _mm512_permute_ps(x, 0x4E);
  if constexpr (distance == 4) partner = _mm512_shuffle_f32x4(x, x, 0xB1);
  if constexpr (distance == 8) partner = _mm512_shuffle_f32x4(x, x, 0x4E);
  constexpr std::uint32_t upper = distance == 1   ? 0xAAAA
                                  : distance == 2 ? 0xCCCC
                                  : distance == 4 ? 0xF0F0
                                                  : 0xFF00;
  const __m512 sign =
      _mm512_mask_blend_ps(static_cast<__mmask16>(upper), _mm512_set1_ps(1.0F), _mm512_set1_ps(-1.0F));
  return _mm512_fmadd_ps(x, sign, partner);
}

template <int registers>
ROTORQUANT_AVX512 void hadamard(const float* x, const float* signs, bool transpose, float* y) {
  __m512 v[registers];
  for (int i = 0; i < registers; ++i) {
    v[i] = _mm512_loadu_ps(x + i * lanes);
    if (!transpose) v[i] = _mm512_mul_ps(_mm512_loadu_ps(signs + i * lanes), v[i]);
    v[i] = butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(v[i]))));
  }
#pragma GCC unroll 4
  for (int stride = 1; stride < registers; stride *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < registers; ++i) {
      if ((i & stride) != 0) continue;
      const __m512 a = v[i];
      const __m512 b = v[i + stride];
      v[i] = _mm512_add_ps(a, b);
      v[i + stride] = _mm512_sub_ps(a, b);
    }
  }
  const __m512 scale =
      _mm512_set1_ps(static_cast<float>(1.0 / std::sqrt(static_cast<double>(registers * lanes))));
  for (int i = 0; i < registers; ++i) {
    v[i] = _mm512_mul_ps(v[i], scale);
    if (transpose) v[i] = _mm512_mul_ps(_mm512_loadu_ps(signs + i * lanes), v[i]);
    _mm512_storeu_ps(y + i * lanes, v[i]);
  }
}

// rows[i] lane j -> rows[j] lane i.
ROTORQUANT_AVX512_INLINE void transpose_sixteen(__m512 (&rows)[16]) {
  __m512 t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
  }
  __m512 u[16];
  for (int i = 0; i < 4; ++i) {
    for (int h = 0; h < 2; ++h) {
      const __m512d low = _mm512_castps_pd(t[4 * i + h]);
      const __m512d high = _mm512_castps_pd(t[4 * i + 2 + h]);
      u[4 * i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      u[4 * i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  // u[4 i + c]: quarters q of rows 4 i .. 4 i + 3, column 4 q + c.
  for (int c = 0; c < 4; ++c) {
    const __m512 even_low = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88);
    const __m512 odd_low = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xDD);
    const __m512 even_high = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
    const __m512 odd_high = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xDD);
    rows[c] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    rows[8 + c] = _mm512_shuffle_f32x4(even_low, even_high, 0xDD);
    rows[4 + c] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    rows[12 + c] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xDD);
  }
}

}  // namespace

ROTORQUANT_AVX512 void block_rows_avx512(const BlockPlan& plan, HostView<const float> x, HostView<float> y) {
  if (plan.block == 2) return block_rows<2>(plan, x, y);
  if (plan.block == 3) return block_rows<3>(plan, x, y);
  block_rows<4>(plan, x, y);
}

ROTORQUANT_AVX512 void hadamard_avx512(const float* x, const float* signs, std::int64_t size, bool transpose,
                                       float* y) {
  switch (size) {
    case 16:
      return hadamard<1>(x, signs, transpose, y);
    case 32:
      return hadamard<2>(x, signs, transpose, y);
    case 64:
      return hadamard<4>(x, signs, transpose, y);
    case 128:
      return hadamard<8>(x, signs, transpose, y);
    default:
      return hadamard<16>(x, signs, transpose, y);
  }
}

ROTORQUANT_AVX512 void to_columns_avx512(const float* rows, std::int64_t count, std::int64_t dim,
                                         float* columns) {
  for (std::int64_t c = 0; c < dim; c += lanes) {
    const __mmask16 valid = lanes_below(dim - c);
    __m512 block[16];
    for (int r = 0; r < 16; ++r)
      block[r] = r < count ? _mm512_maskz_loadu_ps(valid, rows + r * dim + c) : _mm512_setzero_ps();
    transpose_sixteen(block);
    const std::int64_t valid_columns = std::min(lanes, dim - c);
    for (std::int64_t i = 0; i < valid_columns; ++i) _mm512_storeu_ps(columns + (c + i) * lanes, block[i]);
  }
}

ROTORQUANT_AVX512 void to_rows_avx512(const float* columns, std::int64_t count, std::int64_t dim,
                                      float* rows) {
  for (std::int64_t c = 0; c < dim; c += lanes) {
    const __mmask16 valid = lanes_below(dim - c);
    __m512 block[16];
    for (std::int64_t i = 0; i < lanes; ++i)
      block[i] = c + i < dim ? _mm512_loadu_ps(columns + (c + i) * lanes) : _mm512_setzero_ps();
    transpose_sixteen(block);
    for (std::int64_t r = 0; r < count; ++r) _mm512_mask_storeu_ps(rows + r * dim + c, valid, block[r]);
  }
}

ROTORQUANT_AVX512 void flat_triples_avx512(const std::int32_t* triples, const float* signs,
                                           std::int64_t count, bool transpose, float* columns) {
  const __m512 two_thirds = _mm512_set1_ps(2.0F / 3.0F);
  for (std::int64_t i = 0; i < count; ++i) {
    float* a = columns + triples[3 * i] * lanes;
    float* b = columns + triples[3 * i + 1] * lanes;
    float* c = columns + triples[3 * i + 2] * lanes;
    const __m512 flips[3] = {_mm512_set1_ps(signs[3 * i]), _mm512_set1_ps(signs[3 * i + 1]),
                             _mm512_set1_ps(signs[3 * i + 2])};
    __m512 x = _mm512_load_ps(a), y = _mm512_load_ps(b), z = _mm512_load_ps(c);
    if (!transpose) {
      x = _mm512_mul_ps(flips[0], x);
      y = _mm512_mul_ps(flips[1], y);
      z = _mm512_mul_ps(flips[2], z);
    }
    const __m512 mean = _mm512_mul_ps(two_thirds, _mm512_add_ps(_mm512_add_ps(x, y), z));
    x = _mm512_sub_ps(mean, x);
    y = _mm512_sub_ps(mean, y);
    z = _mm512_sub_ps(mean, z);
    if (transpose) {
      x = _mm512_mul_ps(flips[0], x);
      y = _mm512_mul_ps(flips[1], y);
      z = _mm512_mul_ps(flips[2], z);
    }
    _mm512_store_ps(a, x);
    _mm512_store_ps(b, y);
    _mm512_store_ps(c, z);
  }
}

}  // namespace rotorquant
#endif
