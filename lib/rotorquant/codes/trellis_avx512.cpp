// AVX-512 (F, BW, DQ, VL) versions of the trellis kernels. 32 states are two registers; a table of 64 entries
// of two int8 levels each is one two-register word permutation, so that decoding needs no VBMI.
#include "rotorquant/codes/trellis_kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for mistakes (GCC bug
// 105593).
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "rotorquant/codes/bit_string.hpp"

// Attributes instead of per-file flags: no inline function of another header is compiled for AVX-512 here.
#define ROTORQUANT_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define ROTORQUANT_AVX512_INLINE \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"), always_inline)) inline

namespace rotorquant::trellis {
namespace {

constexpr int lanes = 16;

ROTORQUANT_AVX512_INLINE __m512 distortion(const Step& step, __m512 y, __m512 weight, int stride, int r) {
  const __m512 difference = _mm512_sub_ps(y, _mm512_load_ps(step.row + r));
  const __m512 error = _mm512_sub_ps(_mm512_abs_ps(difference), _mm512_load_ps(step.row + stride + r));
  return _mm512_mul_ps(_mm512_mul_ps(error, error), weight);
}

// M = 5; the 8 states of M = 3 fill an AVX2 register.
ROTORQUANT_AVX512 void forward(const Step* steps, int count, float* cost, std::uint32_t* survivors) {
  constexpr int states = 32;
  constexpr int vectors = states / lanes;
  // Lane q of output vector v needs cost[(16 v + q) >> 1]: the low or the high half of one vector, each lane
  // twice.
  const __m512i halves[2] = {_mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0),
                             _mm512_set_epi32(15, 15, 14, 14, 13, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8)};
  __m512 current[vectors];
  for (int v = 0; v < vectors; ++v) current[v] = _mm512_load_ps(cost + v * lanes);
  for (int i = 0; i < count; ++i) {
    const __m512 y = _mm512_set1_ps(steps[i].y);
    const __m512 weight = _mm512_set1_ps(steps[i].weight);
    __m512 next[vectors];
    std::uint32_t taken[vectors];
    for (int v = 0; v < vectors; ++v) {
      const int w = v + vectors;
      const __m512 a = _mm512_add_ps(_mm512_permutexvar_ps(halves[v & 1], current[v / 2]),
                                     distortion(steps[i], y, weight, 2 * states, v * lanes));
      const __m512 b = _mm512_add_ps(_mm512_permutexvar_ps(halves[w & 1], current[w / 2]),
                                     distortion(steps[i], y, weight, 2 * states, w * lanes));
      taken[v] = _mm512_cmp_ps_mask(b, a, _CMP_LT_OQ);
      next[v] = _mm512_min_ps(b, a);
    }
    survivors[i] = taken[0] | taken[1] << lanes;
    if ((i + 1) % steps_between_rebasing == 0) {
      __m512 least = next[0];
      for (int v = 1; v < vectors; ++v) least = _mm512_min_ps(least, next[v]);
      const __m512 base = _mm512_set1_ps(_mm512_reduce_min_ps(least));
      for (int v = 0; v < vectors; ++v) next[v] = _mm512_sub_ps(next[v], base);
    }
    for (int v = 0; v < vectors; ++v) current[v] = next[v];
  }
  for (int v = 0; v < vectors; ++v) _mm512_store_ps(cost + v * lanes, current[v]);
}

// How the register windows of 32 coordinates become 32 words: word j takes the two bytes that hold bits 31-j
// .. 31-j+M of the window, and the factor moves the highest of these bits to bit 15.
template <int memory>
struct WindowShuffle {
  alignas(64) std::uint8_t bytes[64];
  alignas(64) std::uint16_t factors[32];

  constexpr WindowShuffle() : bytes(), factors() {
    for (int j = 0; j < 32; ++j) {
      const int bit = 31 - j;
      bytes[2 * j] = static_cast<std::uint8_t>(bit / 8);
      bytes[2 * j + 1] = static_cast<std::uint8_t>(bit / 8 + 1);
      factors[j] = static_cast<std::uint16_t>(1U << (15 - memory - bit % 8));
    }
  }
};
template <int memory>
constexpr WindowShuffle<memory> window_shuffle;

// The words of pairs[p, r] of 32 coordinates, p chosen by `plane` (plane[k] is bit k of p).
template <int count>
ROTORQUANT_AVX512_INLINE __m512i choose_pair(const std::int16_t* pairs, __m512i r, const __mmask32* plane) {
  if constexpr (count == 1) {
    return _mm512_permutex2var_epi16(_mm512_load_si512(pairs), r, _mm512_load_si512(pairs + 32));
  } else {
    constexpr int top = count == 2 ? 0 : 1;
    static_assert(count == 2 || count == 4);
    return _mm512_mask_mov_epi16(choose_pair<count / 2>(pairs, r, plane), plane[top],
                                 choose_pair<count / 2>(pairs + 64 * (count / 2), r, plane));
  }
}

ROTORQUANT_AVX512_INLINE __m512 scaled(__m256i levels, __m512 scale) {
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(levels)), scale);
}

template <int memory, int width>
ROTORQUANT_AVX512 void decode_planes(const PlaneDecode& input, float* values, std::uint16_t* table_index) {
  const __m512i byte_choice = _mm512_load_si512(window_shuffle<memory>.bytes);
  const __m512i factor = _mm512_load_si512(window_shuffle<memory>.factors);
  const __m512 scale = _mm512_set1_ps(input.scale);
  for (int t = 0; t < input.dim; t += 32) {
    const std::uint64_t bits = register_window(input.planes, input.dim, memory, t);
    const __m512i window = _mm512_set1_epi64(static_cast<long long>(bits));
    const __m512i r =
        _mm512_srli_epi16(_mm512_mullo_epi16(_mm512_shuffle_epi8(window, byte_choice), factor), 15 - memory);
    __mmask32 plane[max_decoder_width] = {};  // plane[k] is bit k of u
    __m512i index = r;
    for (int k = 0; k + 1 < width; ++k) {
      const auto offset = static_cast<std::size_t>((k + 1) * input.dim + t);
      plane[k] = static_cast<__mmask32>(load_bits(input.planes, offset));
      index = _mm512_mask_add_epi16(index, plane[k], index,
                                    _mm512_set1_epi16(static_cast<short>(1 << (memory + 1 + k))));
    }
    const __m512i pair = choose_pair<(width <= 2 ? 1 : 1 << (width - 2))>(input.pairs, r, plane + 1);
    // The level is the high byte where bit 0 of u is set, else the low byte; either way sign-extended from
    // the top.
    const __m512i level = _mm512_srai_epi16(_mm512_mask_slli_epi16(pair, ~plane[0], pair, 8), 8);
    _mm512_storeu_si512(table_index + t, index);
    const __m512 first = scaled(_mm512_castsi512_si256(level), scale);
    const __m512 second = scaled(_mm512_extracti64x4_epi64(level, 1), scale);
    const int count = input.dim - t;
    if (count >= 32) {
      _mm512_storeu_ps(values + t, first);
      _mm512_storeu_ps(values + t + 16, second);
    } else {
      const std::uint32_t valid = (1U << count) - 1U;
      _mm512_mask_storeu_ps(values + t, static_cast<__mmask16>(valid), first);
      _mm512_mask_storeu_ps(values + t + 16, static_cast<__mmask16>(valid >> 16), second);
    }
  }
}

template <int memory>
PlaneDecoder decoder_of_width(int width) {
  switch (width) {
    case 1:
      return decode_planes<memory, 1>;
    case 2:
      return decode_planes<memory, 2>;
    case 3:
      return decode_planes<memory, 3>;
    default:
      return decode_planes<memory, 4>;
  }
}

}  // namespace

ForwardPass forward_pass_avx512(int memory) {
  return memory == 3 ? nullptr : forward;
}

PlaneDecoder plane_decoder_avx512(int memory, int width) {
  return memory == 3 ? decoder_of_width<3>(width) : decoder_of_width<5>(width);
}

}  // namespace rotorquant::trellis
#endif
