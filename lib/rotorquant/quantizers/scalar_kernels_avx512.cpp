// AVX-512 (F, BW, DQ, VL) kernels of scalar codecs: a comparison's mask is a bit plane already, and centroids
// are a permutation of registers.
#include "rotorquant/quantizers/scalar_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <cmath>
#include <cstring>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/avx512.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant {
namespace {

using avx512::lanes;
using avx512::lanes_below;

// Bytes ahead of the vectors at hand that are asked for: the processor's own prefetching stops at the end of each page.
constexpr std::int64_t read_ahead = 6144;

// dot_product.hpp's order: eight running sums in float64, added pairwise at the end. Products of float32
// numbers are exact in float64, so that fusing them changes nothing.
ROTORQUANT_AVX512_INLINE __m512d add_squares(__m512d sums, __m512 x) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
  sums = _mm512_fmadd_pd(low, low, sums);
  return _mm512_fmadd_pd(high, high, sums);
}

ROTORQUANT_AVX512_INLINE double total(__m512d sums) {
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(sums), _mm512_extractf64x4_pd(sums, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

// x / divisor. For 16-bit floats by the reciprocal and one correction, a third of the division's time and the same
// bits: that was tried on every one of the 2^33 pairs of an fp16 and a float32 significand (of which bf16's are
// some), and fp16's exponents keep the remainder far from underflow.
template <ElementType type>
ROTORQUANT_AVX512_INLINE __m512 divide_by(__m512 x, __m512 divisor, __m512 reciprocal) {
  if constexpr (type == ElementType::float16) {
    const __m512 quotient = _mm512_mul_ps(x, reciprocal);
    const __m512 remainder = _mm512_fnmadd_ps(quotient, divisor, x);
    return _mm512_fmadd_ps(remainder, reciprocal, quotient);
  } else {
    return _mm512_div_ps(x, divisor);
  }
}

// Copies `rows` rows to `unit` in float32 and finds their norms; the long chains of sums overlap.
template <ElementType type, int rows>
ROTORQUANT_AVX512_INLINE void widen_rows(const ConstHostTensor& x, std::int64_t first, float* unit,
                                         float* norms) {
  const std::int64_t dim = x.cols;
  const std::int64_t whole = dim / lanes * lanes;
  const __mmask16 rest = lanes_below(dim - whole);
  const std::uint8_t* row[rows];
  __m512d sums[rows];
  for (int r = 0; r < rows; ++r) {
    row[r] = x.row(first + r);
    sums[r] = _mm512_setzero_pd();
  }
  for (std::int64_t c = 0; c < whole; c += lanes) {
    for (int r = 0; r < rows; ++r) {
      const __m512 values = avx512::load<type>(row[r], c);
      _mm_prefetch(reinterpret_cast<const char*>(row[r] + c * element_bytes(type)) + read_ahead, _MM_HINT_T0);
      _mm512_storeu_ps(unit + (first + r) * dim + c, values);
      sums[r] = add_squares(sums[r], values);
    }
  }
  for (int r = 0; r < rows; ++r) {
    if (rest != 0) {
      const __m512 values = avx512::load<type>(row[r], whole, rest);
      _mm512_mask_storeu_ps(unit + (first + r) * dim + whole, rest, values);
      sums[r] = add_squares(sums[r], values);
    }
    norms[first + r] = static_cast<float>(std::sqrt(total(sums[r])));
  }
}

template <ElementType type>
ROTORQUANT_AVX512 void normalize_type(const ConstHostTensor& x, bool divide, float* unit, float* norms) {
  const std::int64_t dim = x.cols;
  const std::int64_t whole = dim / lanes * lanes;
  const __mmask16 rest = lanes_below(dim - whole);
  constexpr int together = 4;
  std::int64_t first = 0;
  for (; first + together <= x.rows; first += together) widen_rows<type, together>(x, first, unit, norms);
  for (; first < x.rows; ++first) widen_rows<type, 1>(x, first, unit, norms);
  for (std::int64_t r = 0; r < x.rows && divide; ++r) {
    const float divisor = std::max(norms[r], norm_floor);
    const __m512 divisors = _mm512_set1_ps(divisor);
    const __m512 reciprocals = _mm512_set1_ps(1.0F / divisor);
    float* row = unit + r * dim;
    for (std::int64_t c = 0; c < whole; c += lanes)
      _mm512_storeu_ps(row + c, divide_by<type>(_mm512_loadu_ps(row + c), divisors, reciprocals));
    if (rest != 0) {
      const __m512 values = _mm512_maskz_loadu_ps(rest, row + whole);
      _mm512_mask_storeu_ps(row + whole, rest, divide_by<type>(values, divisors, reciprocals));
    }
  }
}

void normalize(const ConstHostTensor& x, bool divide, float* unit, float* norms) {
  avx512::dispatch_type(x.type, [&]<ElementType type>() { normalize_type<type>(x, divide, unit, norms); });
}

// Boundaries of the first three levels of the search in registers, the next ones in the tables.
struct Thresholds {
  __m512 middle, quarters[2], eighths[4];
};

ROTORQUANT_AVX512_INLINE Thresholds load_thresholds(const ScalarTables& tables) {
  const float* tree = tables.tree.data();
  Thresholds thresholds;
  thresholds.middle = _mm512_set1_ps(tree[1]);
  for (int i = 0; i < 2; ++i) thresholds.quarters[i] = _mm512_set1_ps(tree[2 + i]);
  for (int i = 0; i < 4; ++i) thresholds.eighths[i] = _mm512_set1_ps(tree[4 + i]);
  return thresholds;
}

// masks[j] is bit j of the indices of y.
template <int bits>
ROTORQUANT_AVX512_INLINE void search(const Thresholds& thresholds, const float* tree, __m512 y,
                                     __mmask16 (&masks)[bits]) {
  const __mmask16 upper = _mm512_cmp_ps_mask(y, thresholds.middle, _CMP_GT_OQ);
  masks[bits - 1] = upper;
  if constexpr (bits >= 2) {
    const __m512 quarter = _mm512_mask_blend_ps(upper, thresholds.quarters[0], thresholds.quarters[1]);
    masks[bits - 2] = _mm512_cmp_ps_mask(y, quarter, _CMP_GT_OQ);
  }
  if constexpr (bits >= 3) {
    const __m512 lower_eighth =
        _mm512_mask_blend_ps(masks[bits - 2], thresholds.eighths[0], thresholds.eighths[1]);
    const __m512 upper_eighth =
        _mm512_mask_blend_ps(masks[bits - 2], thresholds.eighths[2], thresholds.eighths[3]);
    const __m512 eighth = _mm512_mask_blend_ps(upper, lower_eighth, upper_eighth);
    masks[bits - 3] = _mm512_cmp_ps_mask(y, eighth, _CMP_GT_OQ);
  }
  if constexpr (bits >= 4) {
    // From here on by the place in the tree: 8 and the three bits found.
    __m512i place = _mm512_set1_epi32(8);
    place = _mm512_mask_or_epi32(place, masks[bits - 1], place, _mm512_set1_epi32(4));
    place = _mm512_mask_or_epi32(place, masks[bits - 2], place, _mm512_set1_epi32(2));
    place = _mm512_mask_or_epi32(place, masks[bits - 3], place, _mm512_set1_epi32(1));
    __m512 threshold = _mm512_permutexvar_ps(place, _mm512_loadu_ps(tree));
    for (int j = bits - 4;; --j) {
      masks[j] = _mm512_cmp_ps_mask(y, threshold, _CMP_GT_OQ);
      if (j == 0) break;
      place = _mm512_add_epi32(place, place);
      place = _mm512_mask_add_epi32(place, masks[j], place, _mm512_set1_epi32(1));
      if (j == bits - 4) {  // 16 entries of the level, one register
        threshold = _mm512_permutexvar_ps(place, _mm512_loadu_ps(tree + 16));
      } else {
        threshold = _mm512_i32gather_ps(place, tree, sizeof(float));
      }
    }
  }
}

template <int bits>
ROTORQUANT_AVX512 void quantize_bits(const ScalarTables& tables, const float* y, std::int64_t rows,
                                     std::int64_t dim, std::uint8_t* planes) {
  const Thresholds thresholds = load_thresholds(tables);
  const float* tree = tables.tree.data();
  const std::int64_t stride = plane_bytes(dim);
  const std::int64_t whole = dim / lanes * lanes;
  const __mmask16 rest = lanes_below(dim - whole);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = y + r * dim;
    std::uint8_t* out = planes + r * bits * stride;
    for (std::int64_t c = 0; c < whole; c += lanes) {
      __mmask16 masks[bits];
      search<bits>(thresholds, tree, _mm512_loadu_ps(row + c), masks);
      for (int j = 0; j < bits; ++j) std::memcpy(out + j * stride + c / 8, &masks[j], sizeof masks[j]);
    }
    if (rest != 0) {
      __mmask16 masks[bits];
      search<bits>(thresholds, tree, _mm512_maskz_loadu_ps(rest, row + whole), masks);
      for (int j = 0; j < bits; ++j) {
        const auto mask = static_cast<std::uint16_t>(masks[j] & rest);
        std::memcpy(out + j * stride + whole / 8, &mask, static_cast<std::size_t>(stride - whole / 8));
      }
    }
  }
}

void quantize(const ScalarTables& tables, const float* y, std::int64_t rows, std::int64_t dim,
              std::uint8_t* planes) {
  dispatch_bits(tables.bits, [&](auto bits) { quantize_bits<bits()>(tables, y, rows, dim, planes); });
}

template <int bits>
ROTORQUANT_AVX512_INLINE __m512 centroids_of(const __mmask16 (&masks)[bits], const float* table, __m512 low) {
  __m512i index = _mm512_maskz_set1_epi32(masks[0], 1);
  for (int j = 1; j < bits; ++j)
    index = _mm512_mask_or_epi32(index, masks[j], index, _mm512_set1_epi32(1 << j));
  if constexpr (bits <= 4) return _mm512_permutexvar_ps(index, low);
  if constexpr (bits == 5) return _mm512_permutex2var_ps(low, index, _mm512_loadu_ps(table + 16));
  return _mm512_i32gather_ps(index, table, sizeof(float));
}

// The indices of 64 coordinates in bytes, from the eight bytes of each plane at `row`.
template <int bits>
ROTORQUANT_AVX512_INLINE __m512i index_bytes(const std::uint8_t* row, std::int64_t stride) {
  std::uint64_t plane = 0;
  std::memcpy(&plane, row, sizeof plane);
  __m512i index = _mm512_maskz_set1_epi8(plane, 1);
  for (int j = 1; j < bits; ++j) {
    std::memcpy(&plane, row + j * stride, sizeof plane);
    index = _mm512_mask_add_epi8(index, plane, index, _mm512_set1_epi8(static_cast<char>(1 << j)));
  }
  return index;
}

// Centroids of 16 of them; up to 4 bits.
template <int quarter>
ROTORQUANT_AVX512_INLINE __m512 centroids_of_quarter(__m512i index, __m512 low) {
  return _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(index, quarter)), low);
}
constexpr int most_byte_bits = 4;

template <int bits>
ROTORQUANT_AVX512 void look_up_bits(const ScalarTables& tables, const std::uint8_t* planes, std::int64_t rows,
                                    std::int64_t dim, float* y) {
  const float* table = tables.centroids.data();
  const __m512 low = _mm512_loadu_ps(table);
  const std::int64_t stride = plane_bytes(dim);
  const std::int64_t whole = dim / lanes * lanes;
  const __mmask16 rest = lanes_below(dim - whole);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint8_t* row = planes + r * bits * stride;
    float* out = y + r * dim;
    std::int64_t c = 0;
    if constexpr (bits <= most_byte_bits) {
      for (; c + 64 <= dim; c += 64) {
        const __m512i index = index_bytes<bits>(row + c / 8, stride);
        _mm512_storeu_ps(out + c, centroids_of_quarter<0>(index, low));
        _mm512_storeu_ps(out + c + 16, centroids_of_quarter<1>(index, low));
        _mm512_storeu_ps(out + c + 32, centroids_of_quarter<2>(index, low));
        _mm512_storeu_ps(out + c + 48, centroids_of_quarter<3>(index, low));
      }
    }
    for (; c < whole; c += lanes) {
      __mmask16 masks[bits];
      for (int j = 0; j < bits; ++j) std::memcpy(&masks[j], row + j * stride + c / 8, sizeof masks[j]);
      _mm512_storeu_ps(out + c, centroids_of<bits>(masks, table, low));
    }
    if (rest != 0) {
      __mmask16 masks[bits] = {};
      for (int j = 0; j < bits; ++j) {
        std::memcpy(&masks[j], row + j * stride + whole / 8, static_cast<std::size_t>(stride - whole / 8));
      }
      _mm512_mask_storeu_ps(out + whole, rest, centroids_of<bits>(masks, table, low));
    }
  }
}

void look_up(const ScalarTables& tables, const std::uint8_t* planes, std::int64_t rows, std::int64_t dim,
             float* y) {
  dispatch_bits(tables.bits, [&](auto bits) { look_up_bits<bits()>(tables, planes, rows, dim, y); });
}

// Whole cache lines past the caches; row lengths and addresses are multiples of 64 bytes.
template <ElementType type>
ROTORQUANT_AVX512 void stream_type(const float* x, const float* scales, const HostTensor& out) {
  for (std::int64_t r = 0; r < out.rows; ++r) {
    const float* row = x + r * out.cols;
    const __m512 factor = _mm512_set1_ps(scales[r]);
    std::uint8_t* to = out.row(r);
    if constexpr (type == ElementType::float32) {
      for (std::int64_t c = 0; c < out.cols; c += lanes) {
        _mm512_stream_ps(reinterpret_cast<float*>(to) + c, _mm512_mul_ps(_mm512_loadu_ps(row + c), factor));
      }
    } else {
      for (std::int64_t c = 0; c < out.cols; c += 2 * lanes) {
        const __m256i low = avx512::narrow<type>(_mm512_mul_ps(_mm512_loadu_ps(row + c), factor));
        const __m256i high = avx512::narrow<type>(_mm512_mul_ps(_mm512_loadu_ps(row + c + lanes), factor));
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to + 2 * c),
                            _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
      }
    }
  }
  _mm_sfence();
}

template <ElementType type>
ROTORQUANT_AVX512 void scale_type(const float* x, const float* scales, const HostTensor& out) {
  const std::int64_t whole = out.cols / lanes * lanes;
  const __mmask16 rest = lanes_below(out.cols - whole);
  for (std::int64_t r = 0; r < out.rows; ++r) {
    const float* row = x + r * out.cols;
    const __m512 factor = _mm512_set1_ps(scales[r]);
    for (std::int64_t c = 0; c < whole; c += lanes)
      avx512::store<type>(_mm512_mul_ps(_mm512_loadu_ps(row + c), factor), out.row(r), c);
    if (rest != 0) {
      const __m512 values = _mm512_maskz_loadu_ps(rest, row + whole);
      avx512::store<type>(_mm512_mul_ps(values, factor), out.row(r), whole, rest);
    }
  }
}

void scale(const float* x, const float* scales, bool stream, const HostTensor& out) {
  constexpr std::int64_t line = 64;
  const bool whole_lines = out.cols * element_bytes(out.type) % line == 0 &&
                           reinterpret_cast<std::uintptr_t>(out.data) % line == 0;
  avx512::dispatch_type(out.type, [&]<ElementType type>() {
    if (stream && whole_lines) return stream_type<type>(x, scales, out);
    scale_type<type>(x, scales, out);
  });
}

// The sixteen sums in the order of the definition.
ROTORQUANT_AVX512_INLINE float fold(__m512 sums) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

ROTORQUANT_AVX512_INLINE __m128 fold_to_four(__m512 sums) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

// fold() of four rows.
ROTORQUANT_AVX512_INLINE __m128 fold_four(__m512 a, __m512 b, __m512 c, __m512 d) {
  __m128 rows[4] = {fold_to_four(a), fold_to_four(b), fold_to_four(c), fold_to_four(d)};
  _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
  return _mm_add_ps(_mm_add_ps(rows[0], rows[2]), _mm_add_ps(rows[1], rows[3]));
}

ROTORQUANT_AVX512 void score(const ScoreQueries& queries, const float* y, const float* scales,
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
    const bool two_bytes = stride - c / 8 >= 2;
    for (int r = 0; r < rows_together; ++r) {
      const std::uint8_t* row = planes + r * bits * stride + c / 8;
      __mmask16 masks[bits] = {};
      for (int j = 0; j < bits; ++j) {
        if (two_bytes) {
          std::memcpy(&masks[j], row + j * stride, 2);
        } else {
          masks[j] = row[j * stride];
        }
      }
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

void score_codes(const ScalarTables& tables, const ScoreQueries& queries, const std::uint8_t* planes,
                 const float* scales, std::int64_t rows, const ScoreRows& scores) {
  dispatch_bits(tables.bits,
                [&](auto bits) { score_bits<bits()>(tables, queries, planes, scales, rows, scores); });
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

void score_integers(const ScalarTables& tables, const IntegerQueries& queries, const std::uint8_t* planes,
                    const float* scales, std::int64_t rows, const ScoreRows& scores) {
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

}  // namespace

const ScalarKernels scalar_kernels_avx512 = {normalize, quantize,    look_up,       scale,
                                             score,     score_codes, score_integers};

}  // namespace rotorquant
#endif
