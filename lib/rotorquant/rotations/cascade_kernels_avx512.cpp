// Cascades of 16 vectors, coordinate by coordinate: their transposition, and a layer of flat rotors.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/rotations/row_ends_avx512.hpp"

namespace rotorquant {
namespace {

using avx512::lanes;
using avx512::lanes_below;

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

template <typename Source>
ROTORQUANT_AVX512 void to_columns(const Source& source, float* columns) {
  const std::int64_t dim = source.cols;
  for (std::int64_t chunk = 0; chunk * lanes < dim; ++chunk) {
    const std::int64_t left = dim - chunk * lanes;
    __m512 block[16];
    for (int r = 0; r < 16; ++r) {
      block[r] = r >= source.rows ? _mm512_setzero_ps()
                 : left >= lanes  ? source.row(r).load(chunk)
                                  : source.row(r).load(chunk, lanes_below(left));
    }
    transpose_sixteen(block);
    for (std::int64_t i = 0; i < std::min(lanes, left); ++i)
      _mm512_store_ps(columns + (chunk * lanes + i) * lanes, block[i]);
  }
}

template <typename Sink>
ROTORQUANT_AVX512 void to_rows(const float* columns, std::int64_t count, std::int64_t dim, const Sink& sink) {
  for (std::int64_t chunk = 0; chunk * lanes < dim; ++chunk) {
    const std::int64_t left = dim - chunk * lanes;
    __m512 block[16];
    for (std::int64_t i = 0; i < lanes; ++i)
      block[i] = i < left ? _mm512_load_ps(columns + (chunk * lanes + i) * lanes) : _mm512_setzero_ps();
    transpose_sixteen(block);
    for (std::int64_t r = 0; r < count; ++r) {
      if (left >= lanes) {
        sink.row(r).store(sink.constants(), chunk, block[r]);
      } else {
        sink.row(r).store(sink.constants(), chunk, lanes_below(left), block[r]);
      }
    }
  }
}

}  // namespace

void to_columns_avx512(const ConstHostTensor& x, const float* factors, float* columns) {
  avx512::with_source(x, factors, [&](const auto& source) { to_columns(source, columns); });
}

// Through the caches: rows come 16 numbers at a time, half a line of 16-bit ones.
void to_rows_avx512(const float* columns, const float* factors, const HostTensor& rows) {
  avx512::with_sink(rows, factors, false,
                    [&](const auto& sink) { to_rows(columns, rows.rows, rows.cols, sink); });
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
