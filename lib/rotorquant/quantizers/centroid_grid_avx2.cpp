// Which of up to 32 centroids may be the nearest to each of eight keys, by products of 16-bit integers;
// centroid_grid_avx512.cpp has the formulas.
#include "rotorquant/quantizers/centroid_grid.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <bit>

#include "rotorquant/core/avx2.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

constexpr std::int64_t of_words = 2 * lanes;  // keys whose words lie together
constexpr int at_once = 8;                    // centroids

ROTORQUANT_AVX2_INLINE __m256i load_words(const std::int32_t* words) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(words));
}
ROTORQUANT_AVX2_INLINE __m256i add_products(__m256i sum, __m256i a, __m256i b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

// sums[k] = starts[k] + <u + reach, i> of `at_once` centroids.
ROTORQUANT_AVX2 void add_centroids(const std::int32_t* words, std::int64_t groups,
                                   const std::int32_t* integers, const std::int32_t* starts, __m256i* sums) {
  __m256i own[at_once];
#pragma GCC unroll 8
  for (int k = 0; k < at_once; ++k) own[k] = _mm256_set1_epi32(starts[k]);
  for (std::int64_t g = 0; g < groups; ++g) {
    const __m256i word = load_words(words + g * of_words);
#pragma GCC unroll 8
    for (int k = 0; k < at_once; ++k)
      own[k] = add_products(own[k], word, _mm256_set1_epi32(integers[g * CentroidGrid::together + k]));
  }
#pragma GCC unroll 8
  for (int k = 0; k < at_once; ++k) sums[k] = own[k];
}

// ||u||^2 but for the constant: of u + reach, the sum of squares less 2 reach times the sum.
ROTORQUANT_AVX2_INLINE __m256i add_keys(const std::int32_t* words, std::int64_t groups, int reach_bits) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i numbers = _mm256_setzero_si256(), squares = _mm256_setzero_si256();
  for (std::int64_t g = 0; g < groups; ++g) {
    const __m256i word = load_words(words + g * of_words);
    numbers = add_products(numbers, word, ones);
    squares = add_products(squares, word, word);
  }
  return _mm256_sub_epi32(squares, _mm256_slli_epi32(numbers, reach_bits + 1));
}

// The place of the lowest bit, by the exponent of its float; 0 for none.
ROTORQUANT_AVX2_INLINE __m256i lowest_bit(__m256i bits) {
  const __m256i lowest = _mm256_and_si256(bits, _mm256_sub_epi32(_mm256_setzero_si256(), bits));
  const __m256i number = _mm256_castps_si256(_mm256_cvtepi32_ps(lowest));  // the highest bit is a sign
  const __m256i exponent = _mm256_srli_epi32(_mm256_slli_epi32(number, 1), 24);
  return _mm256_max_epi32(_mm256_sub_epi32(exponent, _mm256_set1_epi32(127)), _mm256_setzero_si256());
}

ROTORQUANT_AVX2_INLINE __m256 times(float factor, __m256 x) {
  return _mm256_mul_ps(_mm256_set1_ps(factor), x);
}
ROTORQUANT_AVX2_INLINE __m256 plus(__m256 x, float term) {
  return _mm256_add_ps(x, _mm256_set1_ps(term));
}

}  // namespace

ROTORQUANT_AVX2 void CentroidGrid::estimate_avx2(const std::int32_t* words, CentroidEstimates& found) const {
  const std::int64_t groups = grid_.words();
  const int reach_bits = std::countr_zero(static_cast<unsigned>(grid_.reach));
  for (std::int64_t begin = 0; begin < cascade_lanes; begin += lanes) {
    const std::int32_t* own_words = words + begin / of_words * of_words * groups + begin % of_words;
    __m256i sums[together];
    for (std::int64_t k = 0; k < count_; k += at_once)
      add_centroids(own_words, groups, integers_.data() + k, starts_.data() + k, sums + k);

    // ||u||^2, at most dim reach^2 <= 2^31, whose sign is not one; and a bound of ||w||.
    const auto constant = static_cast<std::int32_t>(static_cast<std::uint32_t>(dim_ << (2 * reach_bits)));
    const __m256i square =
        _mm256_add_epi32(add_keys(own_words, groups, reach_bits), _mm256_set1_epi32(constant));
    const __m256 units = _mm256_andnot_ps(_mm256_set1_ps(-0.0F), _mm256_cvtepi32_ps(square));
    const __m256 key_square = times(bounds_.step * bounds_.step, units);
    const __m256 key_norm = times(raised, plus(_mm256_sqrt_ps(key_square), bounds_.key));
    const __m256 sizes = plus(key_norm, bounds_.centroids + bounds_.magnitudes);
    const __m256 rounding = times(rounding_share, _mm256_mul_ps(sizes, sizes));
    const __m256 of_centroids = times(bounds_.centroid, key_norm);  // |<w, f>|

    const float unit = bounds_.step * bounds_.grain;
    const __m256 error =
        plus(_mm256_add_ps(of_centroids, rounding), bounds_.key * bounds_.grain * bounds_.integers);
    const __m256 most_slack = _mm256_set1_ps(0x1p29F);
    const __m256i slack =
        _mm256_cvtps_epi32(_mm256_min_ps(plus(times(2.0F * raised / unit, error), 4.0F), most_slack));
    __m256i greatest = sums[0];
    for (std::int64_t k = 1; k < count_; ++k) greatest = _mm256_max_epi32(greatest, sums[k]);
    const __m256i least = _mm256_sub_epi32(greatest, slack);
    __m256i candidates = _mm256_setzero_si256();
    for (std::int64_t k = 0; k < count_; ++k) {
      const __m256i bit = _mm256_set1_epi32(static_cast<std::int32_t>(1U << k));
      candidates = _mm256_or_si256(candidates, _mm256_andnot_si256(_mm256_cmpgt_epi32(least, sums[k]), bit));
    }
    _mm256_store_si256(reinterpret_cast<__m256i*>(found.candidates.data() + begin), candidates);

    const __m256i others = _mm256_and_si256(candidates, _mm256_sub_epi32(candidates, _mm256_set1_epi32(1)));
    const __m256i decided = _mm256_cmpeq_epi32(others, _mm256_setzero_si256());
    found.decided |= static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(decided))) << begin;
    const __m256i centroid = lowest_bit(candidates);
    _mm256_store_si256(reinterpret_cast<__m256i*>(found.nearest.data() + begin), centroid);
    const __m256i move = _mm256_i32gather_epi32(moves_.data(), centroid, sizeof(std::int32_t));
    const __m256 product = _mm256_cvtepi32_ps(_mm256_sub_epi32(greatest, move));
    const __m256 own_square = _mm256_i32gather_ps(squares_.data(), centroid, sizeof(float));
    const __m256 distance =
        _mm256_add_ps(_mm256_fnmadd_ps(_mm256_set1_ps(2.0F * unit), product, key_square), own_square);
    // With r = ||x - h - c||: |r^2 - distance| <= 2 ||e|| (r + ||e|| + ||f||) + ||e||^2 + 2 |<w, f>|.
    const __m256 fixed = plus(_mm256_add_ps(_mm256_add_ps(of_centroids, of_centroids), rounding),
                              bounds_.key * (3.0F * bounds_.key + 2.0F * bounds_.centroid));
    const __m256 within =
        plus(_mm256_max_ps(_mm256_add_ps(distance, fixed), _mm256_setzero_ps()), bounds_.key * bounds_.key);
    const __m256 most_root = plus(_mm256_sqrt_ps(within), bounds_.key);
    const __m256 bound = times(raised, _mm256_fmadd_ps(_mm256_set1_ps(2.0F * bounds_.key), most_root, fixed));
    _mm256_store_ps(found.least.data() + begin, _mm256_sub_ps(distance, bound));
    _mm256_store_ps(found.most.data() + begin, _mm256_add_ps(distance, bound));
  }
}

}  // namespace rotorquant
#endif
