// Which of up to 32 centroids may be the nearest to each of sixteen vectors, by 8-bit integer products
// (VNNI).
//
// With z = x + shift ~ s u, u integers, and c ~ t i:  ||z - c||^2 - ||z||^2 = ||c||^2 - 2 <z, c>, and <z, c> differs from
// s t <u, i> by no more than ||z - s u|| ||t i|| + ||z|| ||c - t i||. A centroid whose least value by these
// bounds is above another's greatest is not the nearest.
#include "rotorquant/quantizers/centroid_search.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <cmath>
#include <limits>

#include "rotorquant/core/folds_avx512.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/core/transpose_avx512.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

// Of the float32 sums here and of the distances that decide, relative to the square of the norms' sum: some
// dozens of roundings of 2^-24.
constexpr float rounding_share = 1e-5F;

// Sixteen vectors as bytes u + 128, four coordinates to a word, in columns, and what their bounds need.
struct ByteVectors {
  float* words;  // [ceil(dim / 64) 16, 16]
  alignas(64) float steps[16];
  alignas(64) float norms[16];
  alignas(64) float errors[16];  // ||z - s u||
};

// Coordinates [c, c + 16) of row r, 0 beyond its end.
struct ShiftedRows {
  const float* x;
  const float* shift;
  std::int64_t dim;

  ROTORQUANT_AVX512_INLINE __m512 load(std::int64_t r, std::int64_t c) const {
    const float* row = x + r * dim + c;
    if (c + lanes <= dim) return _mm512_add_ps(_mm512_loadu_ps(row), _mm512_loadu_ps(shift + c));
    const __mmask16 valid = lanes_below(dim - c);
    return _mm512_add_ps(_mm512_maskz_loadu_ps(valid, row), _mm512_maskz_loadu_ps(valid, shift + c));
  }
};

ROTORQUANT_AVX512 void to_bytes(const ShiftedRows& rows, std::int64_t count, ByteVectors& out) {
  static thread_local ScratchFloats scratch;
  const std::int64_t words = (rows.dim + 63) / 64 * 16;
  float* bytes = scratch.reserve(16 * words);
  for (std::int64_t r = 0; r < 16; ++r) {
    auto* place = reinterpret_cast<std::uint8_t*>(bytes + r * words);
    __m512 largest = _mm512_setzero_ps(), squares = _mm512_setzero_ps(), errors = _mm512_setzero_ps();
    for (std::int64_t c = 0; c < rows.dim && r < count; c += lanes) {
      const __m512 z = rows.load(r, c);
      largest = _mm512_max_ps(largest, _mm512_abs_ps(z));
      squares = _mm512_fmadd_ps(z, z, squares);
    }
    const float step = std::max(_mm512_reduce_max_ps(largest) * (1.0F / 127.0F), 1e-30F);
    const __m512 steps = _mm512_set1_ps(step), inverse = _mm512_set1_ps(1.0F / step);
    for (std::int64_t c = 0; c < 4 * words; c += lanes) {
      __m512i integers = _mm512_setzero_si512();
      if (c < rows.dim && r < count) {
        const __m512 z = rows.load(r, c);
        integers = _mm512_cvtps_epi32(_mm512_mul_ps(z, inverse));
        const __m512 error = _mm512_fnmadd_ps(steps, _mm512_cvtepi32_ps(integers), z);
        errors = _mm512_fmadd_ps(error, error, errors);
      }
      _mm_store_si128(reinterpret_cast<__m128i*>(place + c), _mm512_cvtepi32_epi8(integers));
    }
    out.steps[r] = step;
    out.norms[r] = std::sqrt(fold(squares));
    out.errors[r] = std::sqrt(fold(errors));
  }
  const __m512i middle = _mm512_set1_epi8(-128);
  for (std::int64_t first = 0; first < words; first += lanes) {
    __m512 columns[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
      columns[r] =
          _mm512_castsi512_ps(_mm512_xor_si512(_mm512_load_si512(bytes + r * words + first), middle));
    }
    transpose_sixteen(columns);
#pragma GCC unroll 16
    for (int m = 0; m < 16; ++m) _mm512_store_ps(out.words + (first + m) * lanes, columns[m]);
  }
}

// <u + 128, i> of sixteen centroids.
ROTORQUANT_VNNI void products(const float* words, const std::int32_t* bytes, std::int64_t groups,
                              std::int64_t stride, std::int32_t* sums) {
  __m512i own[16];
#pragma GCC unroll 16
  for (int k = 0; k < 16; ++k) own[k] = _mm512_setzero_si512();
  for (std::int64_t g = 0; g < groups; ++g) {
    const __m512i word = _mm512_load_si512(words + g * lanes);
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k)
      own[k] = _mm512_dpbusd_epi32(own[k], word, _mm512_set1_epi32(bytes[g * stride + k]));
  }
#pragma GCC unroll 16
  for (int k = 0; k < 16; ++k) _mm512_store_si512(sums + k * lanes, own[k]);
}

}  // namespace

ROTORQUANT_AVX512 void CentroidSearch::candidates_avx512(const float* x, std::int64_t rows,
                                                         std::uint32_t* found) const {
  static thread_local ScratchFloats scratch;
  const std::int64_t groups = (dim_ + 3) / 4;
  ByteVectors vectors;
  vectors.words = scratch.reserve((dim_ + 63) / 64 * 16 * lanes);
  to_bytes({x, shift_.data(), dim_}, rows, vectors);
  alignas(64) std::int32_t sums[together * lanes];
  for (std::int64_t first = 0; first < count_; first += lanes)
    products(vectors.words, bytes_.data() + first, groups, together, sums + first * lanes);

  const __m512 step = _mm512_load_ps(vectors.steps);
  const __m512 norm = _mm512_load_ps(vectors.norms);
  const __m512 byte_error = _mm512_load_ps(vectors.errors);
  alignas(64) float least[together * lanes];
  __m512 greatest = _mm512_set1_ps(std::numeric_limits<float>::infinity());
  for (std::int64_t k = 0; k < count_; ++k) {
    const auto c = static_cast<std::size_t>(k);
    const __m512i integer =
        _mm512_sub_epi32(_mm512_load_si512(sums + k * lanes), _mm512_set1_epi32(offset_[c]));
    const __m512 product =
        _mm512_mul_ps(_mm512_cvtepi32_ps(integer), _mm512_mul_ps(step, _mm512_set1_ps(2.0F * steps_[c])));
    const __m512 value = _mm512_sub_ps(_mm512_set1_ps(squares_[c]), product);
    const __m512 bound = _mm512_fmadd_ps(byte_error, _mm512_set1_ps(norms_[c]),
                                         _mm512_mul_ps(norm, _mm512_set1_ps(errors_[c])));
    const __m512 sizes = _mm512_add_ps(norm, _mm512_set1_ps(norms_[c] + 2.0F * shift_norm_));
    const __m512 slack = _mm512_fmadd_ps(_mm512_mul_ps(sizes, sizes), _mm512_set1_ps(rounding_share),
                                         _mm512_add_ps(bound, bound));
    _mm512_store_ps(least + k * lanes, _mm512_sub_ps(value, slack));
    greatest = _mm512_min_ps(_mm512_add_ps(value, slack), greatest);
  }
  __m512i candidates = _mm512_setzero_si512();
  for (std::int64_t k = 0; k < count_; ++k) {
    // What does not compare, being too large, stays a candidate.
    const __mmask16 near = _mm512_cmp_ps_mask(_mm512_load_ps(least + k * lanes), greatest, _CMP_NGT_UQ);
    candidates = _mm512_mask_or_epi32(candidates, near, candidates,
                                      _mm512_set1_epi32(static_cast<std::int32_t>(1U << k)));
  }
  _mm512_storeu_si512(found, candidates);
}

}  // namespace rotorquant
#endif
