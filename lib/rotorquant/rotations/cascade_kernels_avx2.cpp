// A layer of flat rotors on vectors coordinate by coordinate, eight at a time.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include "rotorquant/core/avx2.hpp"

namespace rotorquant {
namespace {

using avx2::lanes;

constexpr int column_registers = static_cast<int>(column_lanes / lanes);

// What all triples of a layer share.
template <int groups>
struct TripleEnds {
  float* columns;
  std::int64_t pitch;
  __m256 factors[groups][column_registers];
};

// The triples of one kind of flat rotor (cascade.hpp): where a sign is negative, sums are differences. Every
// rounding, and the sign of every zero, is that of the definition, which multiplies by the signs. `scaled`:
// of vectors times their factors.
template <int kind, bool transpose, bool scaled, int groups>
ROTORQUANT_AVX2_INLINE void flat_triples(const std::int32_t* triples, std::int64_t count,
                                         const TripleEnds<groups>& ends) {
  const __m256 two_thirds = _mm256_set1_ps(2.0F / 3.0F);
  const __m256 one = _mm256_set1_ps(1.0F);
  const __m256 sign = _mm256_set1_ps(-0.0F);
  for (std::int64_t i = 0; i < count; ++i) {
    float* places[3];
    for (int c = 0; c < 3; ++c) places[c] = ends.columns + triples[3 * i + c];
#pragma GCC unroll 2
    for (int g = 0; g < groups; ++g) {
#pragma GCC unroll 2
      for (int h = 0; h < column_registers; ++h) {
        float* const own[3] = {places[0] + h * lanes, places[1] + h * lanes, places[2] + h * lanes};
        __m256 x = _mm256_load_ps(own[0]), y = _mm256_load_ps(own[1]), z = _mm256_load_ps(own[2]);
        if constexpr (scaled) {
          x = _mm256_mul_ps(x, ends.factors[g][h]);
          y = _mm256_mul_ps(y, ends.factors[g][h]);
          z = _mm256_mul_ps(z, ends.factors[g][h]);
        }
        __m256 sum;
        if (transpose || kind == 0) sum = _mm256_add_ps(_mm256_add_ps(x, y), z);
        if (!transpose && kind == 1) sum = _mm256_sub_ps(_mm256_sub_ps(x, y), z);
        if (!transpose && kind == 2) sum = _mm256_sub_ps(_mm256_sub_ps(y, x), z);
        if (!transpose && kind == 3) sum = _mm256_add_ps(_mm256_fnmsub_ps(one, x, y), z);
        const __m256 mean = _mm256_mul_ps(two_thirds, sum);
        const auto turned = [&](__m256 value, bool negative) ROTORQUANT_AVX2_LAMBDA {
          if (!transpose) return negative ? _mm256_add_ps(mean, value) : _mm256_sub_ps(mean, value);
          const __m256 difference = _mm256_sub_ps(mean, value);
          return negative ? _mm256_xor_ps(difference, sign) : difference;
        };
        _mm256_store_ps(own[0], turned(x, kind == 2 || kind == 3));
        _mm256_store_ps(own[1], turned(y, kind == 1 || kind == 3));
        _mm256_store_ps(own[2], turned(z, kind == 1 || kind == 2));
      }
      for (float*& place : places) place += ends.pitch;
    }
  }
}

// The coordinates that no triple takes.
template <bool transpose, bool scaled, int groups>
ROTORQUANT_AVX2_INLINE void turn_left(const FlatLayer& layer, const TripleEnds<groups>& ends) {
  const __m256 cosine = _mm256_set1_ps(layer.cosine);
  const __m256 sine = _mm256_set1_ps(transpose ? -layer.sine : layer.sine);
  for (int g = 0; g < groups; ++g) {
    for (int h = 0; h < column_registers; ++h) {
      float* own = ends.columns + g * ends.pitch + h * lanes;
      if constexpr (scaled) {
        for (const std::int32_t place : layer.left)
          _mm256_store_ps(own + place, _mm256_mul_ps(_mm256_load_ps(own + place), ends.factors[g][h]));
      }
      if (!layer.plane) continue;
      float* a = own + layer.left[0];
      float* b = own + layer.left[1];
      const __m256 x = _mm256_load_ps(a), y = _mm256_load_ps(b);
      _mm256_store_ps(a, _mm256_sub_ps(_mm256_mul_ps(cosine, x), _mm256_mul_ps(sine, y)));
      _mm256_store_ps(b, _mm256_add_ps(_mm256_mul_ps(sine, x), _mm256_mul_ps(cosine, y)));
    }
  }
}

template <bool transpose, bool scaled, int groups>
ROTORQUANT_AVX2 void flat_layer(const FlatLayer& layer, const float* factors, std::int64_t pitch,
                                float* columns) {
  TripleEnds<groups> ends{columns, pitch, {}};
  for (int g = 0; g < groups; ++g) {
    for (int h = 0; h < column_registers; ++h)
      ends.factors[g][h] =
          scaled ? _mm256_loadu_ps(factors + g * column_lanes + h * lanes) : _mm256_setzero_ps();
  }
  const std::int32_t* triples = layer.places.data();
  const auto of_kind = [&]<int kind>() ROTORQUANT_AVX2_LAMBDA {
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

void flat_layer_avx2(const FlatLayer& layer, bool transpose, const float* factors, std::int64_t groups,
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
