// Rows of calibrated keys to the columns of a cascade and to integers on the grid of the search of centroids
// (centroid_grid.hpp), eight keys at a time: transposed as the 16-bit numbers that they are, if they are.
#include "rotorquant/quantizers/calibrated_load.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/core/load_transposed_avx2.hpp"
#include "rotorquant/core/transpose_avx2.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

constexpr std::int64_t together = 32;  // coordinates
constexpr std::int64_t half = together / 2;
// Coordinates [first, first + 32) of eight keys: numbers(i) are those of coordinate first + i.
template <bool on_grid, typename Numbers>
ROTORQUANT_AVX2_INLINE void put_numbers(const KeyEnds& ends, std::int64_t first, const Numbers& numbers,
                                        __m256i& outside) {
  const std::int64_t left = static_cast<std::int64_t>(ends.program.slots.size()) - first;
  const std::int32_t* slots = ends.program.slots.data() + first;
  const float* scales = ends.program.scales.data() + first;
  const float* shift = ends.shift + first;
  const float* addends = on_grid ? ends.grid->addends.data() + first : nullptr;
  float* const columns = ends.columns;
  std::int32_t* const words = ends.words + first / 2 * keys_of_words;
  const __m256 inverse_step = _mm256_set1_ps(on_grid ? ends.grid->inverse_step : 0.0F);
  const __m256i zero = _mm256_set1_epi32(grid_zero);
  const auto to_column = [&](std::int64_t i, __m256 x) ROTORQUANT_AVX2_LAMBDA {
    if (i >= left) return;
    const __m256 shifted = _mm256_sub_ps(x, _mm256_set1_ps(shift[i]));
    _mm256_store_ps(columns + slots[i] * cascade_lanes, _mm256_mul_ps(_mm256_set1_ps(scales[i]), shifted));
  };
  const auto on_the_grid = [&](std::int64_t i, __m256 x) ROTORQUANT_AVX2_LAMBDA {
    const __m256 addend = _mm256_set1_ps(addends[i]);
    const __m256i number = _mm256_castps_si256(_mm256_fmadd_ps(x, inverse_step, addend));
    outside = _mm256_or_si256(outside, _mm256_xor_si256(number, zero));
    return number;
  };
  for (std::int64_t i = 0; i < half; ++i) {
    const __m256 low = numbers(i), high = numbers(half + i);
    to_column(i, low);
    to_column(half + i, high);
    if constexpr (on_grid) {
      const __m256i high_bits = _mm256_slli_epi32(on_the_grid(half + i, high), 16);
      const __m256i pair = _mm256_blend_epi16(on_the_grid(i, low), high_bits, 0xAA);
      _mm256_store_si256(reinterpret_cast<__m256i*>(words + i * keys_of_words), pair);
    }
  }
}

// Coordinates [first, first + 32) of rows, in columns of eight; zeros where there are none.
template <ElementType type>
class Transposed {
 public:
  using Number = std::conditional_t<type == ElementType::float32, float, std::uint16_t>;

  ROTORQUANT_AVX2_INLINE Transposed(const ConstHostTensor& x, std::int64_t first) {
    const std::int64_t left = std::min(x.cols - first, together);
    const Number* rows[lanes];
    alignas(32) Number copies[lanes][together];
    for (std::int64_t r = 0; r < lanes; ++r) {
      rows[r] = reinterpret_cast<const Number*>(x.row(r)) + first;
      if (left == together && r < x.rows) continue;
      std::fill_n(copies[r], together, Number{});
      if (r < x.rows) std::memcpy(copies[r], rows[r], static_cast<std::size_t>(left) * sizeof(Number));
      rows[r] = copies[r];
    }
    if constexpr (type == ElementType::float32) {
      for (std::int64_t c = 0; c < together; c += lanes) {
        __m256 square[lanes];
        load_transposed([&](std::int64_t r) ROTORQUANT_AVX2_LAMBDA { return rows[r] + c; }, square);
        for (std::int64_t i = 0; i < lanes; ++i) _mm256_store_ps(numbers_[c + i], square[i]);
      }
    } else {
      for (std::int64_t c = 0; c < together; c += half) {
        __m256i squares[lanes];
        for (std::int64_t r = 0; r < lanes; ++r)
          squares[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r] + c));
        transpose_halves(squares);
        for (std::int64_t i = 0; i < lanes; ++i) {
          auto* place = reinterpret_cast<__m128i*>(numbers_[c + i]);
          _mm_store_si128(place, _mm256_castsi256_si128(squares[i]));
          _mm_store_si128(place + lanes, _mm256_extracti128_si256(squares[i], 1));
        }
      }
    }
  }
  ROTORQUANT_AVX2_INLINE __m256 operator()(std::int64_t i) const { return load<type>(numbers_[i], 0); }

 private:
  alignas(32) Number numbers_[together][lanes];
};

// The keys with a coordinate off the grid.
template <ElementType type, bool on_grid>
ROTORQUANT_AVX2 std::uint32_t load_eight(const ConstHostTensor& x, const KeyEnds& ends) {
  __m256i outside = _mm256_setzero_si256();
  for (std::int64_t first = 0; first < x.cols; first += together)
    put_numbers<on_grid>(ends, first, Transposed<type>(x, first), outside);
  if constexpr (!on_grid) return 0xFF;
  const __m256i beyond = _mm256_and_si256(outside, _mm256_set1_epi32(~(2 * ends.grid->reach - 1)));
  const __m256i within = _mm256_cmpeq_epi32(beyond, _mm256_setzero_si256());
  return ~static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(within)));
}

}  // namespace

std::uint32_t load_keys_avx2(const ConstHostTensor& x, const float* shift, const CascadeProgram& program,
                             const KeyGrid* grid, float* columns, std::int32_t* words) {
  return load_block<lanes>(
      x, shift, program, grid, columns, words,
      []<ElementType type, bool on_grid>(const ConstHostTensor& rows, const KeyEnds& ends) {
        return load_eight<type, on_grid>(rows, ends);
      });
}

}  // namespace rotorquant
#endif
