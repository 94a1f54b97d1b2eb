// Vectors as rows to vectors coordinate by coordinate, and back, 16 at a time.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <bit>

#include "rotorquant/core/transpose_avx512.hpp"
#include "rotorquant/rotations/row_ends_avx512.hpp"

namespace rotorquant {
namespace {

using avx512::lanes;
using avx512::lanes_below;
using avx512::transpose_halves;
using avx512::transpose_sixteen;

static_assert(lanes == column_lanes);

// Coordinates of chunk `chunk` to columns; `whole`: sixteen rows, all of whose sixteen coordinates lie in the
// row.
template <bool whole, typename Source>
ROTORQUANT_AVX512_INLINE void chunk_to_columns(const Source& source, std::int64_t chunk, float* columns) {
  const std::int64_t left = source.cols - chunk * lanes;
  __m512 block[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) {
    if constexpr (whole) {
      block[r] = source.row(r).load(chunk);
    } else {
      block[r] = r < source.rows ? source.row(r).load(chunk, lanes_below(left)) : _mm512_setzero_ps();
    }
  }
  transpose_sixteen(block);
  float* out = columns + chunk * lanes * column_lanes;
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (whole || i < left) _mm512_store_ps(out + i * column_lanes, block[i]);
  }
}

template <typename Source>
ROTORQUANT_AVX512 void to_columns(const Source& source, float* columns) {
  std::int64_t chunk = 0;
  for (; (chunk + 1) * lanes <= source.cols && source.rows == 16; ++chunk)
    chunk_to_columns<true>(source, chunk, columns);
  for (; chunk * lanes < source.cols; ++chunk) chunk_to_columns<false>(source, chunk, columns);
}

// Coordinates [first, first + 32) of a row of 16-bit numbers.
ROTORQUANT_AVX512_INLINE __m512i load_halves(const std::uint8_t* row, std::int64_t first, std::int64_t left) {
  const auto* place = reinterpret_cast<const std::uint16_t*>(row) + first;
  if (left >= 2 * lanes) return _mm512_loadu_si512(place);
  return _mm512_maskz_loadu_epi16((__mmask32{1} << left) - 1, place);
}

// Rows to columns as they are, with the squares of coordinates c mod 16 = i in sums[i].
template <ElementType type>
ROTORQUANT_AVX512_INLINE void measured_columns(const ConstHostTensor& x, __m512 (&sums)[16], float* columns) {
  const auto put = [&](int i, std::int64_t first, __m512 column) ROTORQUANT_AVX512_LAMBDA {
    sums[i] = avx512::add_float_squares<type>(sums[i], column);
    if (first + i < x.cols) _mm512_store_ps(columns + (first + i) * column_lanes, column);
  };
  if constexpr (type == ElementType::float32) {
    for (std::int64_t first = 0; first < x.cols; first += lanes) {
      const __mmask16 valid = lanes_below(x.cols - first);
      __m512 block[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r)
        block[r] = r < x.rows ? avx512::load<type>(x.row(r), first, valid) : _mm512_setzero_ps();
      transpose_sixteen(block);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) put(i, first, block[i]);
    }
  } else {
    std::int64_t first = 0;
    for (; first + lanes < x.cols; first += 2 * lanes) {
      __m512i block[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) {
        block[r] = r < x.rows ? load_halves(x.row(r), first, x.cols - first) : _mm512_setzero_si512();
      }
      transpose_halves(block);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        put(i, first, avx512::widen<type>(_mm512_castsi512_si256(block[i])));
        put(i, first + lanes, avx512::widen<type>(_mm512_extracti64x4_epi64(block[i], 1)));
      }
    }
    if (first >= x.cols) return;
    __m256i block[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
      const auto* place = reinterpret_cast<const std::uint16_t*>(x.row(r)) + first;
      block[r] =
          r < x.rows ? _mm256_maskz_loadu_epi16(lanes_below(x.cols - first), place) : _mm256_setzero_si256();
    }
    transpose_halves(block);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) put(i, first, avx512::widen<type>(block[i]));
  }
}

template <ElementType type>
ROTORQUANT_AVX512 void unit_rows_to_columns(const ConstHostTensor& x, float* norms, float* factors,
                                            float* columns) {
  __m512 sums[16];
#pragma GCC unroll 16
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  measured_columns<type>(x, sums, columns);
#pragma GCC unroll 4
  for (int half = 8; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) sums[i] = _mm512_add_ps(sums[i], sums[i + half]);
  }
  const __mmask16 valid = lanes_below(x.rows);
  __m512 found = _mm512_sqrt_ps(sums[0]);
  const __mmask16 in_range = _mm512_cmp_ps_mask(sums[0], _mm512_set1_ps(least_float_square), _CMP_GE_OQ) &
                             _mm512_cmp_ps_mask(sums[0], _mm512_set1_ps(most_float_square), _CMP_LE_OQ);
  _mm512_mask_storeu_ps(norms, valid, found);
  unsigned doubtful = ~static_cast<unsigned>(in_range) & valid;
  if (doubtful != 0) {
    for (; doubtful != 0; doubtful &= doubtful - 1) {
      const int r = std::countr_zero(doubtful);
      norms[r] = avx512::exact_norm<type>(x, r);
    }
    found = _mm512_maskz_loadu_ps(valid, norms);
  }
  const __m512 divisors = _mm512_max_ps(found, _mm512_set1_ps(norm_floor));
  _mm512_storeu_ps(factors, _mm512_div_ps(_mm512_set1_ps(1.0F), divisors));
}

template <typename Sink>
ROTORQUANT_AVX512 void to_rows(const float* columns, std::int64_t count, std::int64_t dim, const Sink& sink) {
  for (std::int64_t chunk = 0; chunk * lanes < dim; ++chunk) {
    const std::int64_t left = dim - chunk * lanes;
    __m512 block[16];
    for (std::int64_t i = 0; i < lanes; ++i)
      block[i] =
          i < left ? _mm512_load_ps(columns + (chunk * lanes + i) * column_lanes) : _mm512_setzero_ps();
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

void unit_rows_to_columns_avx512(const ConstHostTensor& x, float* norms, float* factors, float* columns) {
  dispatch_type(x.type, [&]<ElementType type>() { unit_rows_to_columns<type>(x, norms, factors, columns); });
}

// Through the caches: rows come 16 numbers at a time, half a line of 16-bit ones.
void to_rows_avx512(const float* columns, const float* factors, const HostTensor& rows) {
  avx512::with_sink(rows, rows.cols, factors, false,
                    [&](const auto& sink) { to_rows(columns, rows.rows, rows.cols, sink); });
}

}  // namespace rotorquant
#endif
