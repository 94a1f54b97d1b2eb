// A layer of flat rotors on vectors coordinate by coordinate, 16 at a time.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include "rotorquant/core/avx512.hpp"

namespace rotorquant {
namespace {

using avx512::lanes;

static_assert(lanes == column_lanes);

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

}  // namespace

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
