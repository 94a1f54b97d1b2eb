// Scores from codes with AVX-512, exactly and, by VNNI, with 8-bit integers.
#include "rotorquant/quantizers/scalar_kernels_avx512.hpp"

#if defined(__x86_64__)
#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/plane_registers_avx512.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/folds_avx512.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

// Queries and rows whose sums are kept in registers together.
template <int bits, int queries_together, int rows_together>
ROTORQUANT_AVX512_INLINE void score_group(const ScalarTables& tables, const ScoreQueries& queries,
                                          std::int64_t first_query, const std::uint8_t* planes,
                                          const float* scales, const ScoreRows& scores, __m512 low) {
  const std::int64_t stride = plane_bytes(queries.dim);
  const float* table = tables.centroids.data();
  __m512 sums[rows_together][queries_together];
  for (int r = 0; r < rows_together; ++r) {
    for (int i = 0; i < queries_together; ++i) sums[r][i] = _mm512_setzero_ps();
  }
  const auto add = [&](int r, std::int64_t c, __m512 centroids) ROTORQUANT_AVX512_LAMBDA {
    for (int i = 0; i < queries_together; ++i) {
      const float* query = queries.values + (first_query + i) * queries.stride;
      sums[r][i] = _mm512_add_ps(sums[r][i], _mm512_mul_ps(_mm512_loadu_ps(query + c), centroids));
    }
  };
  std::int64_t c = 0;
  if constexpr (bits <= most_byte_bits) {
    for (; c + 64 <= queries.dim; c += 64) {
      for (int r = 0; r < rows_together; ++r) {
        const __m512i index = index_bytes<bits>(planes + r * bits * stride + c / 8, stride);
        add(r, c, centroids_of_quarter<0>(index, low));
        add(r, c + 16, centroids_of_quarter<1>(index, low));
        add(r, c + 32, centroids_of_quarter<2>(index, low));
        add(r, c + 48, centroids_of_quarter<3>(index, low));
      }
    }
  }
  for (; c < queries.dim; c += lanes) {
    for (int r = 0; r < rows_together; ++r) {
      __mmask16 masks[bits] = {};
      load_masks<bits>(planes + r * bits * stride, stride, c / lanes, masks);
      add(r, c, centroids_of<bits>(masks, table, low));
    }
  }
  for (int i = 0; i < queries_together; ++i) {
    float* out = scores.data + (first_query + i) * scores.stride;
    if constexpr (rows_together == 4) {
      _mm_storeu_ps(
          out, _mm_mul_ps(_mm_loadu_ps(scales), fold_four(sums[0][i], sums[1][i], sums[2][i], sums[3][i])));
    } else {
      for (int r = 0; r < rows_together; ++r) out[r] = scales[r] * fold(sums[r][i]);
    }
  }
}

template <int bits>
ROTORQUANT_AVX512 void score_bits(const ScalarTables& tables, const ScoreQueries& queries,
                                  const std::uint8_t* planes, const float* scales, std::int64_t rows,
                                  const ScoreRows& scores) {
  constexpr int together = 4;
  const __m512 low = _mm512_loadu_ps(tables.centroids.data());
  const std::int64_t stride = bits * plane_bytes(queries.dim);
  for (std::int64_t t = 0; t < rows;) {
    const bool group = t + together <= rows;
    const ScoreRows part{scores.data + t, scores.stride};
    const std::uint8_t* codes = planes + t * stride;
    std::int64_t i = 0;
    for (; i + together <= queries.count; i += together) {
      if (group) {
        score_group<bits, together, together>(tables, queries, i, codes, scales + t, part, low);
      } else {
        score_group<bits, together, 1>(tables, queries, i, codes, scales + t, part, low);
      }
    }
    for (; i < queries.count; ++i) {
      if (group) {
        score_group<bits, 1, together>(tables, queries, i, codes, scales + t, part, low);
      } else {
        score_group<bits, 1, 1>(tables, queries, i, codes, scales + t, part, low);
      }
    }
    t += group ? together : 1;
  }
}

#define ROTORQUANT_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,avx512vnni")))
#define ROTORQUANT_VNNI_LAMBDA \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,avx512vnni"), always_inline))
#define ROTORQUANT_VNNI_INLINE ROTORQUANT_VNNI_LAMBDA inline

// Of one row, the sum over coordinates of level times integer, levels 128 too large: 64 coordinates at once,
// planes to bytes, bytes to levels, products into 32-bit sums.
template <int bits>
ROTORQUANT_VNNI_INLINE __m512i level_sums(__m512i levels, const std::int8_t* query, const std::uint8_t* row,
                                          std::int64_t stride, std::int64_t dim) {
  __m512i sums = _mm512_setzero_si512();
  std::int64_t c = 0;
  for (; c + 64 <= dim; c += 64) {
    const __m512i index = index_bytes<bits>(row + c / 8, stride);
    sums = _mm512_dpbusd_epi32(sums, _mm512_shuffle_epi8(levels, index), _mm512_loadu_si512(query + c));
  }
  if (c < dim) {
    std::uint8_t planes[bits * 8] = {};
    for (int j = 0; j < bits; ++j)
      std::memcpy(planes + 8 * j, row + j * stride + c / 8, static_cast<std::size_t>(stride - c / 8));
    const __m512i index = index_bytes<bits>(planes, 8);
    sums = _mm512_dpbusd_epi32(sums, _mm512_shuffle_epi8(levels, index), _mm512_loadu_si512(query + c));
  }
  return sums;
}

ROTORQUANT_VNNI_INLINE __m128i add_quarters(__m512i sums) {
  const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
}

template <int bits>
ROTORQUANT_VNNI void integer_bits(const ScalarTables& tables, const IntegerQueries& queries,
                                  const std::uint8_t* planes, const float* scales, std::int64_t rows,
                                  const ScoreRows& scores) {
  const __m512i levels =
      _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(tables.levels.data())));
  const std::int64_t stride = plane_bytes(queries.dim);
  const auto sums_of = [&](const std::int8_t* query, std::int64_t t) ROTORQUANT_VNNI_LAMBDA {
    return add_quarters(level_sums<bits>(levels, query, planes + t * bits * stride, stride, queries.dim));
  };
  for (std::int64_t i = 0; i < queries.count; ++i) {
    const std::int8_t* query = queries.values + i * queries.stride;
    float* out = scores.data + i * scores.stride;
    const __m128i offset = _mm_set1_epi32(128 * queries.sums[i]);
    const __m128 factor = _mm_set1_ps(queries.factors[i]);
    std::int64_t t = 0;
    for (; t + 4 <= rows; t += 4) {
      const __m128i low = _mm_hadd_epi32(sums_of(query, t), sums_of(query, t + 1));
      const __m128i high = _mm_hadd_epi32(sums_of(query, t + 2), sums_of(query, t + 3));
      const __m128i sums = _mm_sub_epi32(_mm_hadd_epi32(low, high), offset);
      _mm_storeu_ps(out + t, _mm_mul_ps(_mm_loadu_ps(scales + t), _mm_mul_ps(factor, _mm_cvtepi32_ps(sums))));
    }
    for (; t < rows; ++t) {
      const __m128i low = _mm_hadd_epi32(sums_of(query, t), _mm_setzero_si128());
      const std::int32_t sum =
          _mm_cvtsi128_si32(_mm_sub_epi32(_mm_hadd_epi32(low, _mm_setzero_si128()), offset));
      out[t] = scales[t] * (queries.factors[i] * static_cast<float>(sum));
    }
  }
}

}  // namespace

ROTORQUANT_AVX512 void score_avx512(const ScoreQueries& queries, const float* y, const float* scales,
                                    std::int64_t rows, const ScoreRows& scores) {
  const std::int64_t whole = queries.dim / lanes * lanes;
  const __mmask16 rest = lanes_below(queries.dim - whole);
  for (std::int64_t t = 0; t < rows; ++t) {
    const float* row = y + t * queries.dim;
    for (std::int64_t i = 0; i < queries.count; ++i) {
      const float* query = queries.values + i * queries.stride;
      __m512 sums = _mm512_setzero_ps();
      for (std::int64_t c = 0; c < whole; c += lanes) {
        sums = _mm512_add_ps(sums, _mm512_mul_ps(_mm512_loadu_ps(query + c), _mm512_loadu_ps(row + c)));
      }
      if (rest != 0) {
        sums = _mm512_add_ps(sums, _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, query + whole),
                                                 _mm512_maskz_loadu_ps(rest, row + whole)));
      }
      scores.data[i * scores.stride + t] = scales[t] * fold(sums);
    }
  }
}

void score_codes_avx512(const ScalarTables& tables, const ScoreQueries& queries, const std::uint8_t* planes,
                        const float* scales, std::int64_t rows, const ScoreRows& scores) {
  dispatch_bits(tables.bits,
                [&](auto bits) { score_bits<bits()>(tables, queries, planes, scales, rows, scores); });
}

void score_integers_avx512(const ScalarTables& tables, const IntegerQueries& queries,
                           const std::uint8_t* planes, const float* scales, std::int64_t rows,
                           const ScoreRows& scores) {
  static const bool vnni = __builtin_cpu_supports("avx512vnni") != 0;
  if (!vnni) return scalar_kernels_serial.score_integers(tables, queries, planes, scales, rows, scores);
  switch (tables.bits) {
    case 1:
      return integer_bits<1>(tables, queries, planes, scales, rows, scores);
    case 2:
      return integer_bits<2>(tables, queries, planes, scales, rows, scores);
    case 3:
      return integer_bits<3>(tables, queries, planes, scales, rows, scores);
    default:
      return integer_bits<4>(tables, queries, planes, scales, rows, scores);
  }
}

}  // namespace rotorquant
#endif
