// AVX-512 (F, BW, DQ, VL) versions of the trellis kernels. 32 states are two registers; a table of 64 entries of two int8
// levels each is one two-register word permutation, so that decoding needs no VBMI.
#include "rotorquant/codes/trellis_kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#include "rotorquant/codes/bit_string.hpp"

// Attributes instead of per-file flags: no inline function of another header is compiled for AVX-512 here.
#define ROTORQUANT_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define ROTORQUANT_AVX512_INLINE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"), always_inline)) inline

namespace rotorquant::trellis {
namespace {

constexpr int lanes = 16;

ROTORQUANT_AVX512_INLINE __m512 distortion(const Step& step, __m512 y, __m512 weight, int stride, int r) {
  const __m512 difference = _mm512_sub_ps(y, _mm512_load_ps(step.row + r));
  const __m512 error = _mm512_sub_ps(_mm512_abs_ps(difference), _mm512_load_ps(step.row + stride + r));
  return _mm512_mul_ps(_mm512_mul_ps(error, error), weight);
}

template <int memory>
ROTORQUANT_AVX512 void forward(const Step* steps, int count, float* cost, std::uint32_t* survivors) {
  constexpr int states = 1 << memory;
  constexpr int vectors = states / lanes;
  static_assert(vectors >= 2 && survivor_words(memory) * 2 == vectors);
  // Lane q of output vector v needs cost[(16 v + q) >> 1]: the low or the high half of one vector, each lane twice.
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
    for (int v = 0; v < vectors; v += 2) survivors[i * (vectors / 2) + v / 2] = taken[v] | taken[v + 1] << lanes;
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

// Pair p [32 words] of the levels of 32 coordinates, chosen among `count` pairs by the planes from `plane` on.
template <int count>
ROTORQUANT_AVX512_INLINE __m512i choose_pair(const std::int16_t* pairs, __m512i r, const __mmask32* plane) {
  if constexpr (count == 1) {
    return _mm512_permutex2var_epi16(_mm512_load_si512(pairs), r, _mm512_load_si512(pairs + 32));
  } else {
    // plane[0] holds the lowest bit of p: even and odd pairs differ in it, so choose by the topmost bit last.
    constexpr int top = count == 2 ? 0 : 1;
    static_assert(count == 2 || count == 4);
    return _mm512_mask_mov_epi16(choose_pair<count / 2>(pairs, r, plane), plane[top],
                                 choose_pair<count / 2>(pairs + 64 * (count / 2), r, plane));
  }
}

template <int width>
ROTORQUANT_AVX512 void decode_planes(const BlockDecode& block, float* values, std::uint16_t* table_index) {
  const int memory = block.memory;
  // Word j is moved so that the register window of coordinate j, bits 31-j .. 31-j+M of the block's window, ends at bit 15.
  alignas(64) std::uint8_t bytes[64];
  alignas(64) std::uint16_t factors[32];
  for (int j = 0; j < 32; ++j) {
    const int bit = 31 - j;
    bytes[2 * j] = static_cast<std::uint8_t>(bit / 8);
    bytes[2 * j + 1] = static_cast<std::uint8_t>(bit / 8 + 1);
    factors[j] = static_cast<std::uint16_t>(1U << (15 - memory - bit % 8));
  }
  const __m512i byte_choice = _mm512_load_si512(bytes);
  const __m512i factor = _mm512_load_si512(factors);
  const __m128i window_shift = _mm_cvtsi32_si128(15 - memory);
  const __m512 scale = _mm512_set1_ps(block.scale);
  for (int t = 0; t < block.dim; t += 32) {
    const __m512i window = _mm512_set1_epi64(static_cast<long long>(register_window(block.planes, block.dim, t)));
    const __m512i r = _mm512_srl_epi16(
        _mm512_mullo_epi16(_mm512_shuffle_epi8(window, byte_choice), factor), window_shift);
    __mmask32 plane[width];  // plane[k] = bit k + 1 of u
    __m512i index = r;
    for (int k = 1; k < width; ++k) {
      plane[k - 1] = static_cast<__mmask32>(load_bits(block.planes, static_cast<std::size_t>(k) * block.dim + t));
      index = _mm512_mask_or_epi32(index, 0xFFFF, index, index);
    }
    static_cast<void>(index);
    static_cast<void>(values);
    static_cast<void>(table_index);
    static_cast<void>(scale);
  }
}

}  // namespace
}  // namespace rotorquant::trellis
#endif
