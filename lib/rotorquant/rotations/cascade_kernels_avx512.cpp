// Cascades of 16 vectors, coordinate by coordinate: their transposition, and a layer of flat rotors.
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
using avx512::transpose_sixteen;

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
  float* out = columns + chunk * lanes * lanes;
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (whole || i < left) _mm512_store_ps(out + i * lanes, block[i]);
  }
}

template <typename Source>
ROTORQUANT_AVX512 void to_columns(const Source& source, float* columns) {
  std::int64_t chunk = 0;
  for (; (chunk + 1) * lanes <= source.cols && source.rows == 16; ++chunk)
    chunk_to_columns<true>(source, chunk, columns);
  for (; chunk * lanes < source.cols; ++chunk) chunk_to_columns<false>(source, chunk, columns);
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

// The triples of one kind of flat rotor (cascade.hpp): where a sign is negative, sums are differences. Every
// rounding, and the sign of every zero, is that of the definition, which multiplies by the signs.
template <int kind, bool transpose>
ROTORQUANT_AVX512_INLINE void flat_triples(const std::int32_t* triples, std::int64_t count, float* columns) {
  const __m512 two_thirds = _mm512_set1_ps(2.0F / 3.0F);
  const __m512 one = _mm512_set1_ps(1.0F);
  const __m512 sign = _mm512_set1_ps(-0.0F);
#pragma GCC unroll 2
  for (std::int64_t i = 0; i < count; ++i) {
    float* places[3] = {columns + triples[3 * i], columns + triples[3 * i + 1], columns + triples[3 * i + 2]};
    const __m512 x = _mm512_load_ps(places[0]), y = _mm512_load_ps(places[1]), z = _mm512_load_ps(places[2]);
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
  }
}

template <bool transpose>
ROTORQUANT_AVX512 void flat_layer(const FlatLayer& layer, float* columns) {
  const std::int32_t* triples = layer.places.data();
  const auto of_kind = [&]<int kind>() ROTORQUANT_AVX512_LAMBDA {
    flat_triples<kind, transpose>(triples, layer.counts[kind], columns);
    triples += 3 * layer.counts[kind];
  };
  of_kind.template operator()<0>();
  of_kind.template operator()<1>();
  of_kind.template operator()<2>();
  of_kind.template operator()<3>();
}

ROTORQUANT_AVX512_INLINE __m512i join(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
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

// Bit planes of 16 vectors from their columns [dim, 16]. A comparison's mask holds a bit of one coordinate of
// each vector: the masks of 64 coordinates are bytes of vectors 0 to 7 and of vectors 8 to 15, and a test of
// bit v of all bytes is 64 bits of vector v's plane.
template <int bits>
ROTORQUANT_AVX512 void columns_to_planes(const float* columns, std::int64_t count, std::int64_t dim,
                                         const PlaneCodebook& codebook, std::uint8_t* planes) {
  const avx512::SymmetricSearch<bits> search(codebook);
  const std::int64_t stride = plane_bytes(dim);
  for (std::int64_t first = 0; first < dim; first += 64) {
    const std::int64_t coordinates = std::min<std::int64_t>(64, dim - first);
    alignas(64) std::uint16_t words[bits][64];
    for (std::int64_t c = coordinates; c < 64; ++c) {
      for (int j = 0; j < bits; ++j)
        words[j][c] = j < bits - 1 ? 0xFFFF : 0;  // 0 once compared with the sign
    }
#pragma GCC unroll 4
    for (std::int64_t c = 0; c < coordinates; ++c) {
      __mmask16 masks[bits];
      search.compare(_mm512_load_ps(columns + (first + c) * lanes), masks);
      for (int j = 0; j < bits; ++j) words[j][c] = masks[j];
    }
    const std::int64_t bytes = std::min<std::int64_t>(8, stride - first / 8);
    for (int j = 0; j < bits; ++j) {
      __m512i early = _mm512_load_si512(words[j]), late = _mm512_load_si512(words[j] + 32);
      if (j < bits - 1) {
        early = equal_bits(early, _mm512_load_si512(words[bits - 1]));
        late = equal_bits(late, _mm512_load_si512(words[bits - 1] + 32));
      }
      const __m512i low = join(_mm512_cvtepi16_epi8(early), _mm512_cvtepi16_epi8(late));
      const __m512i high = join(_mm512_cvtepi16_epi8(_mm512_srli_epi16(early, 8)),
                                _mm512_cvtepi16_epi8(_mm512_srli_epi16(late, 8)));
      std::uint8_t* place = planes + j * stride + first / 8;
      const auto store = [&](std::int64_t v) ROTORQUANT_AVX512_LAMBDA {
        const __m512i bit = _mm512_set1_epi8(static_cast<char>(1 << v % 8));
        store_bytes(place + v * bits * stride, _mm512_test_epi8_mask(v < 8 ? low : high, bit), bytes);
      };
      if (count == lanes) {
#pragma GCC unroll 16
        for (int v = 0; v < 16; ++v) store(v);
      } else {
        for (std::int64_t v = 0; v < count; ++v) store(v);
      }
    }
  }
}

}  // namespace

void to_columns_avx512(const ConstHostTensor& x, const float* factors, float* columns) {
  avx512::with_source(x, factors, [&](const auto& source) { to_columns(source, columns); });
}

void unit_rows_to_columns_avx512(const ConstHostTensor& x, float* norms, float* columns) {
  float factors[lanes];
  dispatch_type(x.type, [&]<ElementType type>() { avx512::unit_factors<type>(x, norms, factors); });
  to_columns_avx512(x, factors, columns);
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

void flat_layer_avx512(const FlatLayer& layer, bool transpose, float* columns) {
  if (transpose) return flat_layer<true>(layer, columns);
  flat_layer<false>(layer, columns);
}

}  // namespace rotorquant
#endif
