// AVX2 versions of the trellis kernels: eight states to a register; table look-ups of 16 entries at a time.
#include "rotorquant/codes/trellis_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/codes/bit_string.hpp"
#include "rotorquant/core/avx2.hpp"

namespace rotorquant::trellis {
namespace {

constexpr int lanes = 8;

ROTORQUANT_AVX2_INLINE __m256 distortion(const Step& step, __m256 y, __m256 weight, int stride, int r) {
  const __m256 sign = _mm256_set1_ps(-0.0F);
  const __m256 difference = _mm256_andnot_ps(sign, _mm256_sub_ps(y, _mm256_load_ps(step.row + r)));
  const __m256 error = _mm256_sub_ps(difference, _mm256_load_ps(step.row + stride + r));
  return _mm256_mul_ps(_mm256_mul_ps(error, error), weight);
}

ROTORQUANT_AVX2_INLINE float reduce_min(__m256 v) {
  __m128 least = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  least = _mm_min_ps(least, _mm_movehl_ps(least, least));
  least = _mm_min_ss(least, _mm_movehdup_ps(least));
  return _mm_cvtss_f32(least);
}

template <int memory>
ROTORQUANT_AVX2 void forward(const Step* steps, int count, float* cost, std::uint32_t* survivors) {
  constexpr int states = 1 << memory;
  constexpr int vectors = states / lanes;
  // Lane q of output vector v needs cost[(8 v + q) >> 1]: the low or the high half of one vector, each lane
  // twice.
  const __m256i halves[2] = {_mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0),
                             _mm256_set_epi32(7, 7, 6, 6, 5, 5, 4, 4)};
  __m256 current[vectors];
  for (int v = 0; v < vectors; ++v) current[v] = _mm256_load_ps(cost + v * lanes);
  for (int i = 0; i < count; ++i) {
    const __m256 y = _mm256_set1_ps(steps[i].y);
    const __m256 weight = _mm256_set1_ps(steps[i].weight);
    __m256 next[vectors];
    std::uint32_t survivor = 0;
    for (int v = 0; v < vectors; ++v) {
      const int w = v + vectors;
      const __m256 a = _mm256_add_ps(_mm256_permutevar8x32_ps(current[v / 2], halves[v & 1]),
                                     distortion(steps[i], y, weight, 2 * states, v * lanes));
      const __m256 b = _mm256_add_ps(_mm256_permutevar8x32_ps(current[w / 2], halves[w & 1]),
                                     distortion(steps[i], y, weight, 2 * states, w * lanes));
      const int less = _mm256_movemask_ps(_mm256_cmp_ps(b, a, _CMP_LT_OQ));
      survivor |= static_cast<std::uint32_t>(less) << (v * lanes);
      next[v] = _mm256_min_ps(b, a);
    }
    survivors[i] = survivor;
    if ((i + 1) % steps_between_rebasing == 0) {
      __m256 least = next[0];
      for (int v = 1; v < vectors; ++v) least = _mm256_min_ps(least, next[v]);
      const __m256 base = _mm256_set1_ps(reduce_min(least));
      for (int v = 0; v < vectors; ++v) next[v] = _mm256_sub_ps(next[v], base);
    }
    for (int v = 0; v < vectors; ++v) current[v] = next[v];
  }
  for (int v = 0; v < vectors; ++v) _mm256_store_ps(cost + v * lanes, current[v]);
}

// How the register windows of 32 coordinates become words: word j takes the two bytes that hold bits 31-j ..
// 31-j+M of the window, and the factor moves the highest of these bits to bit 15. Half 0 has coordinates 0..7
// and 16..23, half 1 the others, so that packing the two puts the 32 in order.
template <int memory>
struct WindowShuffle {
  alignas(32) std::uint8_t bytes[2][32];
  alignas(32) std::uint16_t factors[2][16];

  constexpr WindowShuffle() : bytes(), factors() {
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 16; ++i) {
        const int bit = 31 - (i / 8 * 16 + half * 8 + i % 8);
        bytes[half][2 * i] = static_cast<std::uint8_t>(bit / 8);
        bytes[half][2 * i + 1] = static_cast<std::uint8_t>(bit / 8 + 1);
        factors[half][i] = static_cast<std::uint16_t>(1U << (15 - memory - bit % 8));
      }
    }
  }
};
template <int memory>
constexpr WindowShuffle<memory> window_shuffle;

ROTORQUANT_AVX2_INLINE __m256i load(const void* aligned) {
  return _mm256_load_si256(static_cast<const __m256i*>(aligned));
}

// Registers r of 32 coordinates, one byte each.
template <int memory>
ROTORQUANT_AVX2_INLINE __m256i registers(__m256i window) {
  __m256i half[2];
  for (int h = 0; h < 2; ++h) {
    const __m256i chosen = _mm256_shuffle_epi8(window, load(window_shuffle<memory>.bytes[h]));
    half[h] =
        _mm256_srli_epi16(_mm256_mullo_epi16(chosen, load(window_shuffle<memory>.factors[h])), 15 - memory);
  }
  return _mm256_packus_epi16(half[0], half[1]);
}

// Bit j of `bits` to all bits of byte j.
ROTORQUANT_AVX2_INLINE __m256i spread(std::uint32_t bits) {
  const __m256i byte_choice =
      _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201U));
  const __m256i chosen = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), byte_choice);
  return _mm256_cmpeq_epi8(_mm256_and_si256(chosen, bit), bit);
}

// table[r] of 32 coordinates; r < 16 for memory 3, < 64 for memory 5.
template <int memory>
ROTORQUANT_AVX2_INLINE __m256i look_up(const std::int8_t* table, __m256i r, __m256i bit_4, __m256i bit_5) {
  __m256i part[4];
  for (int i = 0; i < (memory == 3 ? 1 : 4); ++i) {
    const __m128i entries = _mm_load_si128(reinterpret_cast<const __m128i*>(table + 16 * i));
    part[i] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), r);
  }
  if constexpr (memory == 3) {
    return part[0];
  } else {
    return _mm256_blendv_epi8(_mm256_blendv_epi8(part[0], part[1], bit_4),
                              _mm256_blendv_epi8(part[2], part[3], bit_4), bit_5);
  }
}

// levels[u, r] of 32 coordinates; plane[k] is bit k of u, of `bits` bits.
template <int memory, int bits>
ROTORQUANT_AVX2_INLINE __m256i choose_level(const std::int8_t* levels, __m256i r, __m256i bit_4,
                                            __m256i bit_5, const __m256i* plane) {
  if constexpr (bits == 0) {
    return look_up<memory>(levels, r, bit_4, bit_5);
  } else {
    return _mm256_blendv_epi8(
        choose_level<memory, bits - 1>(levels, r, bit_4, bit_5, plane),
        choose_level<memory, bits - 1>(levels + (64 << (bits - 1)), r, bit_4, bit_5, plane), plane[bits - 1]);
  }
}

ROTORQUANT_AVX2_INLINE void store_scaled(float* values, __m128i levels, __m256 scale) {
  _mm256_storeu_ps(values, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(levels)), scale));
}

template <int memory, int width>
ROTORQUANT_AVX2 void decode_planes(const PlaneDecode& input, float* values, std::uint16_t* table_index) {
  const __m256 scale = _mm256_set1_ps(input.scale);
  for (int t = 0; t < input.dim; t += 32) {
    const std::uint64_t bits = register_window(input.planes, input.dim, memory, t);
    const __m256i r = registers<memory>(_mm256_set1_epi64x(static_cast<long long>(bits)));
    __m256i plane[max_decoder_width] = {};  // plane[k] is bit k of u
    __m256i u = _mm256_setzero_si256();
    for (int k = 0; k + 1 < width; ++k) {
      const auto offset = static_cast<std::size_t>((k + 1) * input.dim + t);
      plane[k] = spread(static_cast<std::uint32_t>(load_bits(input.planes, offset)));
      u = _mm256_or_si256(u, _mm256_and_si256(plane[k], _mm256_set1_epi8(static_cast<char>(1 << k))));
    }
    // A blend looks at the top bit of each byte: bits 4 and 5 of r are moved there.
    const __m256i level = choose_level<memory, width - 1>(input.levels, r, _mm256_slli_epi16(r, 3),
                                                          _mm256_slli_epi16(r, 2), plane);
    // A last, partial block is written aside first.
    float tail_values[32];
    const bool whole = input.dim - t >= 32;
    float* const block_values = whole ? values + t : tail_values;
    for (int half = 0; half < 2; ++half) {
      const __m128i half_level =
          half == 0 ? _mm256_castsi256_si128(level) : _mm256_extracti128_si256(level, 1);
      const __m128i half_r = half == 0 ? _mm256_castsi256_si128(r) : _mm256_extracti128_si256(r, 1);
      const __m128i half_u = half == 0 ? _mm256_castsi256_si128(u) : _mm256_extracti128_si256(u, 1);
      store_scaled(block_values + 16 * half, half_level, scale);
      store_scaled(block_values + 16 * half + 8, _mm_srli_si128(half_level, 8), scale);
      const __m256i index = _mm256_or_si256(_mm256_cvtepu8_epi16(half_r),
                                            _mm256_slli_epi16(_mm256_cvtepu8_epi16(half_u), memory + 1));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(table_index + t + 16 * half), index);
    }
    if (!whole) std::copy_n(tail_values, input.dim - t, values + t);
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

ForwardPass forward_pass_avx2(int memory) {
  return memory == 3 ? forward<3> : forward<5>;
}

PlaneDecoder plane_decoder_avx2(int memory, int width) {
  return memory == 3 ? decoder_of_width<3>(width) : decoder_of_width<5>(width);
}

}  // namespace rotorquant::trellis
#endif
