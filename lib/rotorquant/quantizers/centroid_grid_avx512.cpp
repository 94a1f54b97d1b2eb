// Which of up to 32 centroids may be the nearest to each of sixteen keys, by products of 16-bit integers
// (VNNI).
//
// With w = x - step origin = step u + e and g = c + h - step origin = grain i + f (centroid_grid.hpp),
//   -||x - c||^2 / (2 step grain) = <u, i> - (||g||^2 - 2 <c, h>) / (2 step grain) + what centroids share,
// but for  <e, grain i> + <w, f>, which is at most ||e|| ||grain i|| + ||w|| ||f||. A centroid whose greatest
// value by these bounds is below another's least is not the nearest. Likewise
//   ||x - h - c||^2 = step^2 ||u||^2 - 2 step grain <u, i> + ||g||^2 + 2 <e, step u - grain i> + ||e||^2 - 2 <w, f>.
#include "rotorquant/quantizers/centroid_grid.hpp"

#if defined(__x86_64__)
#include "rotorquant/core/avx512.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

// Sums over the words of sixteen keys.
struct KeySums {
  __m512i numbers;  // of u + reach
  __m512i squares;  // of their squares
};

// sums[k] = starts[k] + <u + reach, i> of `count` centroids.
template <int count, bool with_keys>
ROTORQUANT_VNNI_INLINE void add_products(const std::int32_t* words, std::int64_t groups,
                                         const std::int32_t* integers, const std::int32_t* starts,
                                         std::int32_t* sums, KeySums& keys) {
  const __m512i ones = _mm512_set1_epi16(1);
  __m512i own[count];
#pragma GCC unroll 16
  for (int k = 0; k < count; ++k) own[k] = _mm512_set1_epi32(starts[k]);
  if constexpr (with_keys) keys.numbers = keys.squares = _mm512_setzero_si512();
  for (std::int64_t g = 0; g < groups; ++g) {
    const __m512i word = _mm512_load_si512(words + g * lanes);
#pragma GCC unroll 16
    for (int k = 0; k < count; ++k)
      own[k] = _mm512_dpwssd_epi32(own[k], word, _mm512_set1_epi32(integers[g * CentroidGrid::together + k]));
    if constexpr (with_keys) {
      keys.numbers = _mm512_dpwssd_epi32(keys.numbers, word, ones);
      keys.squares = _mm512_dpwssd_epi32(keys.squares, word, word);
    }
  }
#pragma GCC unroll 16
  for (int k = 0; k < count; ++k) _mm512_store_si512(sums + k * lanes, own[k]);
}

// Entries of a table of `together`.
ROTORQUANT_AVX512_INLINE __m512i entries_of(const void* table, __m512i index) {
  const auto* low = static_cast<const std::int32_t*>(table);
  return _mm512_permutex2var_epi32(_mm512_loadu_si512(low), index, _mm512_loadu_si512(low + lanes));
}

// The place of the lowest bit, by the exponent of its float.
ROTORQUANT_AVX512_INLINE __m512i lowest_bit(__m512i bits) {
  const __m512i lowest = _mm512_and_si512(bits, _mm512_sub_epi32(_mm512_setzero_si512(), bits));
  const __m512i exponent = _mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepu32_ps(lowest)), 23);
  return _mm512_sub_epi32(exponent, _mm512_set1_epi32(127));
}

ROTORQUANT_AVX512_INLINE __m512 times(float factor, __m512 x) {
  return _mm512_mul_ps(_mm512_set1_ps(factor), x);
}
ROTORQUANT_AVX512_INLINE __m512 plus(__m512 x, float term) {
  return _mm512_add_ps(x, _mm512_set1_ps(term));
}

}  // namespace

ROTORQUANT_VNNI void CentroidGrid::estimate_avx512(const std::int32_t* words,
                                                   CentroidEstimates& found) const {
  static_assert(together == 2 * lanes && cascade_lanes == 2 * lanes);
  const std::int64_t groups = grid_.words();
  for (std::int64_t half = 0; half < cascade_lanes; half += lanes) {
    const std::int32_t* own_words = words + half * groups;
    alignas(64) std::int32_t sums[together * lanes];
    KeySums keys;
    if (count_ <= 8) {
      add_products<8, true>(own_words, groups, integers_.data(), starts_.data(), sums, keys);
    } else {
      add_products<16, true>(own_words, groups, integers_.data(), starts_.data(), sums, keys);
    }
    if (count_ > lanes) {
      add_products<16, false>(own_words, groups, integers_.data() + lanes, starts_.data() + lanes,
                              sums + lanes * lanes, keys);
    }

    // ||u||^2, at most dim reach^2 <= 2^31, and a bound of ||w||.
    const int reach_bits = std::countr_zero(static_cast<unsigned>(grid_.reach));
    const auto constant = static_cast<std::uint32_t>(dim_ << (2 * reach_bits));
    const __m512i square = _mm512_add_epi32(
        _mm512_sub_epi32(keys.squares,
                         _mm512_slli_epi32(keys.numbers, static_cast<unsigned>(reach_bits) + 1)),
        _mm512_set1_epi32(static_cast<std::int32_t>(constant)));
    const __m512 key_square = times(bounds_.step * bounds_.step, _mm512_cvtepu32_ps(square));
    const __m512 key_norm = times(raised, plus(_mm512_sqrt_ps(key_square), bounds_.key));
    const __m512 sizes = plus(key_norm, bounds_.centroids + bounds_.magnitudes);
    const __m512 rounding = times(rounding_share, _mm512_mul_ps(sizes, sizes));
    const __m512 of_centroids = times(bounds_.centroid, key_norm);  // |<w, f>|

    const float unit = bounds_.step * bounds_.grain;
    const __m512 error =
        plus(_mm512_add_ps(of_centroids, rounding), bounds_.key * bounds_.grain * bounds_.integers);
    const __m512 most_slack = _mm512_set1_ps(0x1p29F);
    const __m512i slack =
        _mm512_cvtps_epi32(_mm512_min_ps(plus(times(2.0F * raised / unit, error), 4.0F), most_slack));
    __m512i greatest = _mm512_load_si512(sums);
    for (std::int64_t k = 1; k < count_; ++k)
      greatest = _mm512_max_epi32(greatest, _mm512_load_si512(sums + k * lanes));
    const __m512i least = _mm512_sub_epi32(greatest, slack);
    __m512i candidates = _mm512_setzero_si512();
    for (std::int64_t k = 0; k < count_; ++k) {
      const __mmask16 near = _mm512_cmpge_epi32_mask(_mm512_load_si512(sums + k * lanes), least);
      candidates = _mm512_mask_or_epi32(candidates, near, candidates,
                                        _mm512_set1_epi32(static_cast<std::int32_t>(1U << k)));
    }
    _mm512_store_si512(found.candidates.data() + half, candidates);

    const __m512i others = _mm512_and_si512(candidates, _mm512_sub_epi32(candidates, _mm512_set1_epi32(1)));
    found.decided |= _cvtmask16_u32(_mm512_testn_epi32_mask(others, others)) << half;
    const __m512i centroid = lowest_bit(candidates);
    _mm512_store_si512(found.nearest.data() + half, centroid);
    const __m512 product =
        _mm512_cvtepi32_ps(_mm512_sub_epi32(greatest, entries_of(moves_.data(), centroid)));
    const __m512 own_square = _mm512_castsi512_ps(entries_of(squares_.data(), centroid));
    const __m512 distance =
        _mm512_add_ps(_mm512_fnmadd_ps(_mm512_set1_ps(2.0F * unit), product, key_square), own_square);
    // With r = ||x - h - c||: |r^2 - distance| <= 2 ||e|| (r + ||e|| + ||f||) + ||e||^2 + 2 |<w, f>|.
    const __m512 fixed = plus(_mm512_add_ps(_mm512_add_ps(of_centroids, of_centroids), rounding),
                              bounds_.key * (3.0F * bounds_.key + 2.0F * bounds_.centroid));
    const __m512 within =
        plus(_mm512_max_ps(_mm512_add_ps(distance, fixed), _mm512_setzero_ps()), bounds_.key * bounds_.key);
    const __m512 most_root = plus(_mm512_sqrt_ps(within), bounds_.key);
    const __m512 bound = times(raised, _mm512_fmadd_ps(_mm512_set1_ps(2.0F * bounds_.key), most_root, fixed));
    _mm512_store_ps(found.least.data() + half, _mm512_sub_ps(distance, bound));
    _mm512_store_ps(found.most.data() + half, _mm512_add_ps(distance, bound));
  }
}

}  // namespace rotorquant
#endif
