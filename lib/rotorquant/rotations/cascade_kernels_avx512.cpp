// Cascades of vectors coordinate by coordinate: their transposition, 16 at a time, and a layer of flat
// rotors.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <cstring>

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

// What all triples of a layer share.
template <int groups>
struct TripleEnds {
  float* columns;
  std::int64_t pitch;
  __m512 factors[groups];
};

// The triples of one kind of flat rotor (cascade.hpp): where a sign is negative, sums are differences. Every
// rounding, and the sign of every zero, is that of the definition, which multiplies by the signs. `scaled`:
// of vectors times their factors.
template <int kind, bool transpose, bool scaled, int groups>
ROTORQUANT_AVX512_INLINE void flat_triples(const std::int32_t* triples, std::int64_t count,
                                           const TripleEnds<groups>& ends) {
  const __m512 two_thirds = _mm512_set1_ps(2.0F / 3.0F);
  const __m512 one = _mm512_set1_ps(1.0F);
  const __m512 sign = _mm512_set1_ps(-0.0F);
#pragma GCC unroll 2
  for (std::int64_t i = 0; i < count; ++i) {
    float* places[3];
    for (int c = 0; c < 3; ++c) places[c] = ends.columns + triples[3 * i + c];
    for (int g = 0; g < groups; ++g) {
      __m512 x = _mm512_load_ps(places[0]), y = _mm512_load_ps(places[1]), z = _mm512_load_ps(places[2]);
      if constexpr (scaled) {
        x = _mm512_mul_ps(x, ends.factors[g]);
        y = _mm512_mul_ps(y, ends.factors[g]);
        z = _mm512_mul_ps(z, ends.factors[g]);
      }
      __m512 sum;
      if (transpose || kind == 0) sum = _mm512_add_ps(_mm512_add_ps(x, y), z);
      if (!transpose && kind == 1) sum = _mm512_sub_ps(_mm512_sub_ps(x, y), z);
      if (!transpose && kind == 2) sum = _mm512_sub_ps(_mm512_sub_ps(y, x), z);
      if (!transpose && kind == 3) sum = _mm512_add_ps(_mm512_fnmsub_ps(one, x, y), z);
      const __m512 mean = _mm512_mul_ps(two_thirds, sum);
      const auto turned = [&](__m512 value, bool negative) ROTORQUANT_AVX512_LAMBDA {
        if (!transpose) return negative ? _mm512_add_ps(mean, value) : _mm512_sub_ps(mean, value);
        const __m512 difference = _mm512_sub_ps(mean, value);
        return negative ? _mm512_xor_ps(difference, sign) : difference;
      };
      _mm512_store_ps(places[0], turned(x, kind == 2 || kind == 3));
      _mm512_store_ps(places[1], turned(y, kind == 1 || kind == 3));
      _mm512_store_ps(places[2], turned(z, kind == 1 || kind == 2));
      for (float*& place : places) place += ends.pitch;
    }
  }
}

// The coordinates that no triple takes.
template <bool transpose, bool scaled, int groups>
ROTORQUANT_AVX512_INLINE void turn_left(const FlatLayer& layer, const TripleEnds<groups>& ends) {
  if constexpr (scaled) {
    for (const std::int32_t place : layer.left) {
      for (int g = 0; g < groups; ++g) {
        float* column = ends.columns + g * ends.pitch + place;
        _mm512_store_ps(column, _mm512_mul_ps(_mm512_load_ps(column), ends.factors[g]));
      }
    }
  }
  if (!layer.plane) return;
  const __m512 cosine = _mm512_set1_ps(layer.cosine);
  const __m512 sine = _mm512_set1_ps(transpose ? -layer.sine : layer.sine);
  for (int g = 0; g < groups; ++g) {
    float* a = ends.columns + g * ends.pitch + layer.left[0];
    float* b = ends.columns + g * ends.pitch + layer.left[1];
    const __m512 x = _mm512_load_ps(a), y = _mm512_load_ps(b);
    _mm512_store_ps(a, _mm512_sub_ps(_mm512_mul_ps(cosine, x), _mm512_mul_ps(sine, y)));
    _mm512_store_ps(b, _mm512_add_ps(_mm512_mul_ps(sine, x), _mm512_mul_ps(cosine, y)));
  }
}

template <bool transpose, bool scaled, int groups>
ROTORQUANT_AVX512 void flat_layer(const FlatLayer& layer, const float* factors, std::int64_t pitch,
                                  float* columns) {
  TripleEnds<groups> ends{columns, pitch, {}};
  for (int g = 0; g < groups; ++g)
    ends.factors[g] = scaled ? _mm512_loadu_ps(factors + g * lanes) : _mm512_setzero_ps();
  const std::int32_t* triples = layer.places.data();
  const auto of_kind = [&]<int kind>() ROTORQUANT_AVX512_LAMBDA {
    flat_triples<kind, transpose, scaled>(triples, layer.counts[kind], ends);
    triples += 3 * layer.counts[kind];
  };
  of_kind.template operator()<0>();
  of_kind.template operator()<1>();
  of_kind.template operator()<2>();
  of_kind.template operator()<3>();
  turn_left<transpose, scaled>(layer, ends);
}

ROTORQUANT_AVX512_INLINE __m512i equal_bits(__m512i a, __m512i b) {
  constexpr int neither_or_both = 0xC3;
  return _mm512_ternarylogic_epi32(a, b, b, neither_or_both);
}

// The lowest `bytes` <= 8 bytes, by whole words.
ROTORQUANT_AVX512_INLINE void store_bytes(std::uint8_t* place, std::uint64_t word, std::int64_t bytes) {
  if (bytes == 8) {
    std::memcpy(place, &word, 8);
    return;
  }
  if ((bytes & 4) != 0) {
    std::memcpy(place, &word, 4);
    place += 4;
    word >>= 32;
  }
  if ((bytes & 2) != 0) {
    std::memcpy(place, &word, 2);
    place += 2;
    word >>= 16;
  }
  if ((bytes & 1) != 0) *place = static_cast<std::uint8_t>(word);
}

// Bit planes of up to 16 vectors from their columns, of at most 32 `registers` coordinates. A
// comparison's mask holds a bit of one coordinate of each vector: the masks of all coordinates are bytes of
// vectors 0 to 7 and of vectors 8 to 15, and a test of bit v of all bytes is the bits of vector v's plane.
template <int bits, int registers>
ROTORQUANT_AVX512_INLINE void piece_to_planes(const avx512::SymmetricSearch<bits>& search,
                                              const float* columns, std::int64_t coordinates,
                                              std::int64_t count, std::int64_t stride, std::uint8_t* planes) {
  constexpr int most = 32 * registers;
  alignas(64) std::uint16_t words[bits][most];
  for (std::int64_t c = coordinates; c < most; ++c) {
    for (int j = 0; j < bits; ++j) words[j][c] = j < bits - 1 ? 0xFFFF : 0;  // 0 once compared with the sign
  }
#pragma GCC unroll 4
  for (std::int64_t c = 0; c < coordinates; ++c) {
    __mmask16 masks[bits];
    search.compare(_mm512_load_ps(columns + c * column_lanes), masks);
    for (int j = 0; j < bits; ++j) words[j][c] = masks[j];
  }
  const std::int64_t bytes = plane_bytes(coordinates);
  for (int j = 0; j < bits; ++j) {
    __m256i low[registers], high[registers];
    for (int i = 0; i < registers; ++i) {
      __m512i masks = _mm512_load_si512(words[j] + 32 * i);
      if (j < bits - 1) masks = equal_bits(masks, _mm512_load_si512(words[bits - 1] + 32 * i));
      low[i] = _mm512_cvtepi16_epi8(masks);
      high[i] = _mm512_cvtepi16_epi8(_mm512_srli_epi16(masks, 8));
    }
    const __m512i low_bytes = _mm512_inserti64x4(_mm512_castsi256_si512(low[0]), low[registers - 1], 1);
    const __m512i high_bytes = _mm512_inserti64x4(_mm512_castsi256_si512(high[0]), high[registers - 1], 1);
    const auto store = [&](std::int64_t v) ROTORQUANT_AVX512_LAMBDA {
      const __m512i bit = _mm512_set1_epi8(static_cast<char>(1 << v % 8));
      std::uint64_t word = 0;
      if constexpr (registers == 1) {
        word = _mm256_test_epi8_mask(v < 8 ? low[0] : high[0], _mm512_castsi512_si256(bit));
      } else {
        word = _mm512_test_epi8_mask(v < 8 ? low_bytes : high_bytes, bit);
      }
      store_bytes(planes + v * bits * stride + j * stride, word, bytes);
    };
    if (count == lanes) {
#pragma GCC unroll 16
      for (int v = 0; v < 16; ++v) store(v);
    } else {
      for (std::int64_t v = 0; v < count; ++v) store(v);
    }
  }
}

// The same of the last 16 coordinates or fewer: what all planes have of a vector are the bits of one test.
template <int bits>
ROTORQUANT_AVX512_INLINE void rest_to_planes(const avx512::SymmetricSearch<bits>& search,
                                             const float* columns, std::int64_t coordinates,
                                             std::int64_t count, std::int64_t stride, std::uint8_t* planes) {
  static_assert(bits <= 4);
  alignas(64) std::uint16_t words[4][16] = {};
  for (std::int64_t c = 0; c < coordinates; ++c) {
    __mmask16 masks[bits];
    search(_mm512_load_ps(columns + c * column_lanes), masks);
    for (int j = 0; j < bits; ++j) words[j][c] = masks[j];
  }
  // Byte 16 j + c: the bits of plane j and coordinate c of vectors 0 to 7, or of vectors 8 to 15.
  const __m512i first = _mm512_load_si512(words[0]), second = _mm512_load_si512(words[2]);
  const auto bytes_of = [&](__m512i a, __m512i b) ROTORQUANT_AVX512_LAMBDA {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)), _mm512_cvtepi16_epi8(b), 1);
  };
  const __m512i low = bytes_of(first, second);
  const __m512i high = bytes_of(_mm512_srli_epi16(first, 8), _mm512_srli_epi16(second, 8));
  for (std::int64_t v = 0; v < count; ++v) {
    const __m512i bit = _mm512_set1_epi8(static_cast<char>(1 << v % 8));
    const std::uint64_t found = _mm512_test_epi8_mask(v < 8 ? low : high, bit);
    for (int j = 0; j < bits; ++j) {
      std::uint8_t* place = planes + v * bits * stride + j * stride;
      const auto own = static_cast<std::uint16_t>(found >> (16 * j));
      if (coordinates > 8) {
        std::memcpy(place, &own, sizeof own);
      } else {
        *place = static_cast<std::uint8_t>(own);
      }
    }
  }
}

template <int bits>
ROTORQUANT_AVX512 void columns_to_planes(const float* columns, std::int64_t count, std::int64_t dim,
                                         const PlaneCodebook& codebook, std::uint8_t* planes) {
  const avx512::SymmetricSearch<bits> search(codebook);
  const std::int64_t stride = plane_bytes(dim);
  const auto piece = [&]<int registers>(std::int64_t first, std::int64_t coordinates)
                         ROTORQUANT_AVX512_LAMBDA {
                           piece_to_planes<bits, registers>(search, columns + first * column_lanes,
                                                            coordinates, count, stride, planes + first / 8);
                         };
  const std::int64_t whole = dim / 64 * 64;
  for (std::int64_t first = 0; first < whole; first += 64) piece.template operator()<2>(first, 64);
  const std::int64_t left = dim - whole;
  if (left > 32) return piece.template operator()<2>(whole, left);
  if (left > lanes) return piece.template operator()<1>(whole, left);
  if (left > 0)
    rest_to_planes<bits>(search, columns + whole * column_lanes, left, count, stride, planes + whole / 8);
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

void columns_to_planes_avx512(const float* columns, std::int64_t count, std::int64_t dim,
                              const PlaneCodebook& codebook, std::uint8_t* planes) {
  avx512::with_plane_bits(
      codebook, [&](auto bits) { columns_to_planes<bits()>(columns, count, dim, codebook, planes); });
}

void flat_layer_avx512(const FlatLayer& layer, bool transpose, const float* factors, std::int64_t groups,
                       std::int64_t pitch, float* columns) {
  const auto run = [&]<int own>() {
    if (transpose) return flat_layer<true, false, own>(layer, factors, pitch, columns);
    if (factors != nullptr) return flat_layer<false, true, own>(layer, factors, pitch, columns);
    flat_layer<false, false, own>(layer, factors, pitch, columns);
  };
  if (groups == most_column_groups) return run.template operator()<most_column_groups>();
  run.template operator()<1>();
}

}  // namespace rotorquant
#endif
