// Rows of calibrated keys to the columns of a cascade and to integers on the grid of the search of centroids
// (centroid_grid.hpp), sixteen keys at a time: transposed as the 16-bit numbers that they are, if they are.
#include "rotorquant/quantizers/calibrated_load.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/core/transpose_avx512.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

constexpr std::int64_t together = 2 * lanes;  // coordinates
// Coordinates [first, first + 32) of up to sixteen keys: numbers(i) and numbers(16 + i) are those of
// coordinates first + i and first + 16 + i.
template <bool on_grid, typename Numbers>
ROTORQUANT_AVX512_INLINE void put_numbers(const KeyEnds& ends, std::int64_t first, const Numbers& numbers,
                                          __m512i& outside) {
  const std::int64_t left = static_cast<std::int64_t>(ends.program.slots.size()) - first;
  const std::int32_t* slots = ends.program.slots.data() + first;
  const float* scales = ends.program.scales.data() + first;
  const float* shift = ends.shift + first;
  const float* addends = on_grid ? ends.grid->addends.data() + first : nullptr;
  float* const columns = ends.columns;
  std::int32_t* const words = ends.words + first / 2 * lanes;
  const __m512 inverse_step = _mm512_set1_ps(on_grid ? ends.grid->inverse_step : 0.0F);
  const __m512i zero = _mm512_set1_epi32(grid_zero);
  const auto to_column = [&](int i, __m512 x) ROTORQUANT_AVX512_LAMBDA {
    if (i >= left) return;
    const __m512 shifted = _mm512_sub_ps(x, _mm512_set1_ps(shift[i]));
    _mm512_store_ps(columns + slots[i] * cascade_lanes, _mm512_mul_ps(_mm512_set1_ps(scales[i]), shifted));
  };
  const auto on_the_grid = [&](int i, __m512 x) ROTORQUANT_AVX512_LAMBDA {
    const __m512 addend = _mm512_set1_ps(addends[i]);
    const __m512i number = _mm512_castps_si512(_mm512_fmadd_ps(x, inverse_step, addend));
    constexpr int or_xor = 0xF6;  // a | (b ^ c)
    outside = _mm512_ternarylogic_epi32(outside, number, zero, or_xor);
    return number;
  };
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    const __m512 low = numbers(i), high = numbers(lanes + i);
    to_column(i, low);
    to_column(lanes + i, high);
    if constexpr (on_grid) {
      const __m512i high_bits = _mm512_slli_epi32(on_the_grid(lanes + i, high), 16);
      const __m512i pair = _mm512_mask_blend_epi16(0xAAAAAAAA, on_the_grid(i, low), high_bits);
      _mm512_store_si512(words + i * lanes, pair);
    }
  }
}

// Numbers of 32 bits transposed, or both halves of transposed numbers of 16.
template <ElementType type>
struct Transposed {
  __m512i halves[16];

  ROTORQUANT_AVX512_INLINE Transposed(const ConstHostTensor& x, std::int64_t first) {
    const std::int64_t left = std::min(x.cols - first, together);
    const std::int64_t row_bytes = x.cols * element_bytes(type);
    const __mmask32 valid = left < together ? (__mmask32{1} << left) - 1 : ~__mmask32{0};
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r) {
      const auto* place = reinterpret_cast<const std::uint16_t*>(x.row(r)) + first;
      _mm_prefetch(reinterpret_cast<const char*>(place) + 2 * lanes * row_bytes, _MM_HINT_T1);
      halves[r] = _mm512_maskz_loadu_epi16(r < x.rows ? valid : 0, r < x.rows ? place : nullptr);
    }
    transpose_halves(halves);
  }
  ROTORQUANT_AVX512_INLINE __m512 operator()(int i) const {
    if (i < lanes) return widen<type>(_mm512_castsi512_si256(halves[i]));
    return widen<type>(_mm512_extracti64x4_epi64(halves[i - lanes], 1));
  }
};
template <>
struct Transposed<ElementType::float32> {
  __m512 columns[2][16];

  ROTORQUANT_AVX512_INLINE Transposed(const ConstHostTensor& x, std::int64_t first) {
    for (int h = 0; h < 2; ++h) {
      const std::int64_t begin = first + h * lanes;
      const __mmask16 valid = lanes_below(std::max<std::int64_t>(0, x.cols - begin));
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) {
        const auto* place = reinterpret_cast<const float*>(x.row(r)) + begin;
        columns[h][r] = _mm512_maskz_loadu_ps(r < x.rows ? valid : 0, place);
      }
      transpose_sixteen(columns[h]);
    }
  }
  ROTORQUANT_AVX512_INLINE __m512 operator()(int i) const {
    return columns[i / lanes][i % lanes];
  }
};

// The keys with a coordinate off the grid.
template <ElementType type, bool on_grid>
ROTORQUANT_AVX512 std::uint32_t load_sixteen(const ConstHostTensor& x, const KeyEnds& ends) {
  __m512i outside = _mm512_setzero_si512();
  for (std::int64_t first = 0; first < x.cols; first += together)
    put_numbers<on_grid>(ends, first, Transposed<type>(x, first), outside);
  if constexpr (!on_grid) return 0xFFFF;
  return _cvtmask16_u32(_mm512_test_epi32_mask(outside, _mm512_set1_epi32(~(2 * ends.grid->reach - 1))));
}

}  // namespace

std::uint32_t load_keys_avx512(const ConstHostTensor& x, const float* shift, const CascadeProgram& program,
                               const KeyGrid* grid, float* columns, std::int32_t* words) {
  return load_block<lanes>(
      x, shift, program, grid, columns, words,
      []<ElementType type, bool on_grid>(const ConstHostTensor& rows, const KeyEnds& ends) {
        return load_sixteen<type, on_grid>(rows, ends);
      });
}

}  // namespace rotorquant
#endif
