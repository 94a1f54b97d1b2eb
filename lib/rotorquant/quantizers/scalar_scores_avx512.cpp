// Scores from codes with AVX-512, exactly and, by VNNI, with 8-bit integers.
#include "rotorquant/quantizers/scalar_kernels.hpp"

#if defined(__x86_64__)
#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/code_words_avx512.hpp"
#include "rotorquant/codes/plane_registers_avx512.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/folds_avx512.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/ordered_query.hpp"

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

// The symbols of 32 coordinates of sixteen rows from their bits of each plane: byte q of symbols[r] is that
// of coordinate r + 8 q, with others' bits above it, up to the byte's fourth, and zeros beyond.
template <int bits>
ROTORQUANT_VNNI_INLINE void symbols_of(const __m512i (&planes)[bits], __m512i (&symbols)[8]) {
  constexpr int select = 0xCA;  // a ? b : c, bit by bit
  const __m512i nibble = _mm512_set1_epi8(0x0F);
  const __m512i even = _mm512_set1_epi8(0x55);
  if constexpr (bits == 1) {
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) symbols[r] = _mm512_and_si512(_mm512_srli_epi32(planes[0], r), nibble);
  } else {
    // Bits of two planes side by side, of the even and of the odd coordinates.
    const auto pair = [&](__m512i low, __m512i high, __m512i(&out)[2]) ROTORQUANT_VNNI_LAMBDA {
      out[0] = _mm512_ternarylogic_epi32(even, low, _mm512_slli_epi32(high, 1), select);
      out[1] = _mm512_ternarylogic_epi32(even, _mm512_srli_epi32(low, 1), high, select);
    };
    __m512i low[2];
    pair(planes[0], planes[1], low);
    if constexpr (bits == 2) {
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r)
        symbols[r] = _mm512_and_si512(_mm512_srli_epi32(low[r % 2], r / 2 * 2), nibble);
    } else {
      __m512i high[2];
      // A third plane alone: what lies beside its bits is above every symbol.
      pair(planes[2], planes[bits - 1], high);
      const __m512i pairs = _mm512_set1_epi8(0x33);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        const __m512i a = low[r % 2], b = high[r % 2];
        const __m512i both = r < 2 ? _mm512_ternarylogic_epi32(pairs, a, _mm512_slli_epi32(b, 2), select)
                                   : _mm512_ternarylogic_epi32(pairs, _mm512_srli_epi32(a, 2), b, select);
        symbols[r] = _mm512_and_si512(both, nibble);
        symbols[r + 4] = _mm512_and_si512(_mm512_srli_epi32(both, 4), nibble);
      }
    }
  }
}

// Sums over coordinates of level times integer of sixteen rows and some queries, levels 128 too large.
template <int bits, int queries>
ROTORQUANT_VNNI_INLINE void level_sums(const CodeWords& words, std::int64_t dim, __m512i levels,
                                       const std::int32_t* ordered, std::int64_t stride,
                                       __m512i (&sums)[queries]) {
  const std::int64_t plane_bits = 8 * plane_bytes(dim);
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (std::int64_t block = 0; block < dim; block += 32) {
    __m512i planes[bits];
    for (int j = 0; j < bits; ++j) {
      const std::int64_t bit = j * plane_bits + block;
      planes[j] = plane_bits % 32 == 0 ? words.word(bit / 32) : words.bits_from(bit);
    }
    __m512i symbols[8];
    symbols_of<bits>(planes, symbols);
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) {
      const __m512i own = _mm512_shuffle_epi8(levels, symbols[r]);
      for (int i = 0; i < queries; ++i) {
        const std::int32_t* query = ordered + i * stride + block / 4;
        sums[i] = _mm512_dpbusd_epi32(sums[i], own, _mm512_set1_epi32(query[r]));
      }
    }
  }
}

template <int bits>
ROTORQUANT_VNNI void integer_bits(const ScalarTables& tables, const IntegerQueries& queries,
                                  const std::uint8_t* planes, const float* scales, std::int64_t rows,
                                  const ScoreRows& scores) {
  // Symbols come with others' bits above their own.
  std::uint8_t repeated[16];
  for (std::size_t i = 0; i < 16; ++i) repeated[i] = tables.levels[i % (std::size_t{1} << bits)];
  const __m512i levels = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(repeated)));
  const std::int64_t code_bytes = bits * plane_bytes(queries.dim);
  static thread_local ScratchFloats word_scratch;
  const CodeWords words(word_scratch.reserve(CodeWords::floats(code_bytes)));
  static thread_local std::vector<std::int32_t> ordered;
  const std::int64_t stride = ordered_words(queries.dim);
  ordered.resize(static_cast<std::size_t>(queries.count * stride));
  for (std::int64_t i = 0; i < queries.count; ++i)
    order_query(queries.values + i * queries.stride, queries.dim, ordered.data() + i * stride);
  for (std::int64_t t = 0; t < rows; t += lanes) {
    const __mmask16 valid = lanes_below(rows - t);
    words.read(planes + t * code_bytes, code_bytes, rows - t);
    const __m512 scale = _mm512_maskz_loadu_ps(valid, scales + t);
    const auto score = [&]<int together>(std::int64_t first) ROTORQUANT_VNNI_LAMBDA {
      __m512i sums[together];
      level_sums<bits, together>(words, queries.dim, levels, ordered.data() + first * stride, stride, sums);
      for (int i = 0; i < together; ++i) {
        const __m512i sum = _mm512_sub_epi32(sums[i], _mm512_set1_epi32(128 * queries.sums[first + i]));
        const __m512 product =
            _mm512_mul_ps(_mm512_set1_ps(queries.factors[first + i]), _mm512_cvtepi32_ps(sum));
        float* out = scores.data + (first + i) * scores.stride + t;
        if (valid == 0xFFFF) {
          _mm512_storeu_ps(out, _mm512_mul_ps(scale, product));
        } else {
          _mm512_mask_storeu_ps(out, valid, _mm512_mul_ps(scale, product));
        }
      }
    };
    std::int64_t i = 0;
    for (; i + 4 <= queries.count; i += 4) score.template operator()<4>(i);
    for (; i < queries.count; ++i) score.template operator()<1>(i);
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
  if (!vnni_supported())
    return scalar_kernels_serial.score_integers(tables, queries, planes, scales, rows, scores);
  dispatch_bits(tables.bits, [&](auto bits) {
    if constexpr (bits() <= most_integer_bits)
      integer_bits<bits()>(tables, queries, planes, scales, rows, scores);
  });
}

}  // namespace rotorquant
#endif
