// AVX-512 (F, BW, DQ, VL) kernels of scalar codecs: a comparison's mask is a bit plane already, and centroids
// are a permutation of registers.
#include "rotorquant/quantizers/scalar_kernels_avx512.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/plane_registers_avx512.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/folds_avx512.hpp"
#include "rotorquant/core/half.hpp"
#include "rotorquant/quantizers/scalar_search_avx512.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

// float32(||x(r)||), the sum in float64.
template <ElementType type>
ROTORQUANT_AVX512_INLINE float exact_norm(const ConstHostTensor& x, std::int64_t r) {
  const std::int64_t whole = x.cols / lanes * lanes;
  __m512d sums = _mm512_setzero_pd();
  for (std::int64_t c = 0; c < whole; c += lanes) sums = add_squares(sums, load<type>(x.row(r), c));
  if (const __mmask16 rest = lanes_below(x.cols - whole); rest != 0)
    sums = add_squares(sums, load<type>(x.row(r), whole, rest));
  return static_cast<float>(std::sqrt(total(sums)));
}

// Squares of fp16 numbers are exact in float32, so that fusing them changes nothing.
template <ElementType type>
ROTORQUANT_AVX512_INLINE __m512 add_float_squares(__m512 sums, __m512 x) {
  if constexpr (type == ElementType::float16) return _mm512_fmadd_ps(x, x, sums);
  return _mm512_add_ps(sums, _mm512_mul_ps(x, x));
}

// The float32 sums of squares of `rows` rows.
template <ElementType type, int rows>
ROTORQUANT_AVX512_INLINE void float_squares(const ConstHostTensor& x, std::int64_t first,
                                            __m512 (&sums)[rows]) {
  const std::int64_t whole = x.cols / lanes * lanes;
  const __mmask16 rest = lanes_below(x.cols - whole);
  const std::uint8_t* row[rows];
  for (int r = 0; r < rows; ++r) {
    row[r] = x.row(first + r);
    sums[r] = _mm512_setzero_ps();
  }
#pragma GCC unroll 4
  for (std::int64_t c = 0; c < whole; c += lanes) {
    for (int r = 0; r < rows; ++r) {
      sums[r] = add_float_squares<type>(sums[r], load<type>(row[r], c));
    }
  }
  for (int r = 0; r < rows && rest != 0; ++r)
    sums[r] = add_float_squares<type>(sums[r], load<type>(row[r], whole, rest));
}

template <ElementType type>
ROTORQUANT_AVX512 void unit_factors_type(const ConstHostTensor& x, float* norms, float* factors) {
  constexpr int together = 4;
  const __m128 least = _mm_set1_ps(least_float_square), most = _mm_set1_ps(most_float_square);
  const auto finish = [&](__m128 squares, std::int64_t first, int count) ROTORQUANT_AVX512_LAMBDA {
    const auto valid = static_cast<__mmask8>((1U << count) - 1U);
    __m128 found = _mm_sqrt_ps(squares);
    const __m128 in_range = _mm_and_ps(_mm_cmpge_ps(squares, least), _mm_cmple_ps(squares, most));
    unsigned doubtful = ~static_cast<unsigned>(_mm_movemask_ps(in_range)) & valid;
    if (doubtful != 0) {
      float values[together];
      _mm_storeu_ps(values, found);
      for (; doubtful != 0; doubtful &= doubtful - 1) {
        const int r = std::countr_zero(doubtful);
        values[r] = exact_norm<type>(x, first + r);
      }
      found = _mm_loadu_ps(values);
    }
    _mm_mask_storeu_ps(norms + first, valid, found);
    const __m128 divisors = _mm_max_ps(found, _mm_set1_ps(norm_floor));
    _mm_mask_storeu_ps(factors + first, valid, _mm_div_ps(_mm_set1_ps(1.0F), divisors));
  };
  std::int64_t first = 0;
  for (; first + together <= x.rows; first += together) {
    __m512 sums[together];
    float_squares<type, together>(x, first, sums);
    finish(fold_four(sums[0], sums[1], sums[2], sums[3]), first, together);
  }
  for (; first < x.rows; ++first) {
    __m512 sums[1];
    float_squares<type, 1>(x, first, sums);
    finish(_mm_set_ss(fold(sums[0])), first, 1);
  }
}

void unit_factors(const ConstHostTensor& x, float* norms, float* factors) {
  dispatch_type(x.type, [&]<ElementType type>() { unit_factors_type<type>(x, norms, factors); });
}

template <ElementType type>
ROTORQUANT_AVX512 void exact_norms_type(const ConstHostTensor& x, float* norms) {
  for (std::int64_t r = 0; r < x.rows; ++r) norms[r] = exact_norm<type>(x, r);
}

void exact_norms(const ConstHostTensor& x, float* norms) {
  dispatch_type(x.type, [&]<ElementType type>() { exact_norms_type<type>(x, norms); });
}

// By the norms at hand where their uncertainty does not reach another 16-bit number.
template <ElementType type>
ROTORQUANT_AVX512 void half_norms_type(const ConstHostTensor& x, const float* norms, std::uint8_t* halves) {
  constexpr int rounding = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  const float uncertainty = norm_uncertainty(x.cols);
  const __m512 down = _mm512_set1_ps(1.0F - uncertainty), up = _mm512_set1_ps(1.0F + uncertainty);
  for (std::int64_t first = 0; first < x.rows; first += lanes) {
    const __mmask16 valid = lanes_below(x.rows - first);
    const __m512 values = _mm512_maskz_loadu_ps(valid, norms + first);
    const __m256i low = _mm512_cvtps_ph(_mm512_mul_ps(values, down), rounding);
    const __m256i high = _mm512_cvtps_ph(_mm512_mul_ps(values, up), rounding);
    _mm256_mask_storeu_epi16(halves + 2 * first, valid, low);
    unsigned doubtful = _mm256_cmpneq_epi16_mask(low, high);
    for (; doubtful != 0; doubtful &= doubtful - 1) {
      const std::int64_t r = first + std::countr_zero(doubtful);
      store_norm(NormType::fp16, exact_norm<type>(x, r), halves + 2 * r);
    }
  }
}

void half_norms(const ConstHostTensor& x, const float* norms, std::uint8_t* halves) {
  dispatch_type(x.type, [&]<ElementType type>() { half_norms_type<type>(x, norms, halves); });
}

template <int bits>
ROTORQUANT_AVX512 void quantize_bits(const ScalarTables& tables, const float* y, std::int64_t rows,
                                     std::int64_t dim, std::uint8_t* planes) {
  const std::int64_t stride = plane_bytes(dim);
  const std::int64_t whole = dim / lanes * lanes;
  const __mmask16 rest = lanes_below(dim - whole);
  with_search<bits>(tables, [&](const auto& find) ROTORQUANT_AVX512_LAMBDA {
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* row = y + r * dim;
      std::uint8_t* out = planes + r * bits * stride;
#pragma GCC unroll 4
      for (std::int64_t c = 0; c < whole; c += lanes) {
        __mmask16 masks[bits];
        find(_mm512_loadu_ps(row + c), masks);
        for (int j = 0; j < bits; ++j) std::memcpy(out + j * stride + c / 8, &masks[j], sizeof masks[j]);
      }
      if (rest != 0) {
        __mmask16 masks[bits];
        find(_mm512_maskz_loadu_ps(rest, row + whole), masks);
        for (int j = 0; j < bits; ++j) {
          const auto mask = static_cast<std::uint16_t>(masks[j] & rest);
          std::memcpy(out + j * stride + whole / 8, &mask, static_cast<std::size_t>(stride - whole / 8));
        }
      }
    }
  });
}

void quantize(const ScalarTables& tables, const float* y, std::int64_t rows, std::int64_t dim,
              std::uint8_t* planes) {
  dispatch_bits(tables.bits, [&](auto bits) { quantize_bits<bits()>(tables, y, rows, dim, planes); });
}

template <int bits>
ROTORQUANT_AVX512 void look_up_bits(const ScalarTables& tables, const std::uint8_t* planes, std::int64_t rows,
                                    std::int64_t dim, float* y) {
  const float* table = tables.centroids.data();
  const __m512 low = _mm512_loadu_ps(table);
  const std::int64_t stride = plane_bytes(dim);
  const std::int64_t whole = dim / lanes * lanes;
  const __mmask16 rest = lanes_below(dim - whole);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint8_t* row = planes + r * bits * stride;
    float* out = y + r * dim;
    std::int64_t c = 0;
    if constexpr (bits <= most_byte_bits) {
      for (; c + 64 <= dim; c += 64) {
        const __m512i index = index_bytes<bits>(row + c / 8, stride);
        _mm512_storeu_ps(out + c, centroids_of_quarter<0>(index, low));
        _mm512_storeu_ps(out + c + 16, centroids_of_quarter<1>(index, low));
        _mm512_storeu_ps(out + c + 32, centroids_of_quarter<2>(index, low));
        _mm512_storeu_ps(out + c + 48, centroids_of_quarter<3>(index, low));
      }
    }
    for (; c < whole; c += lanes) {
      __mmask16 masks[bits];
      for (int j = 0; j < bits; ++j) std::memcpy(&masks[j], row + j * stride + c / 8, sizeof masks[j]);
      _mm512_storeu_ps(out + c, centroids_of<bits>(masks, table, low));
    }
    if (rest != 0) {
      __mmask16 masks[bits] = {};
      for (int j = 0; j < bits; ++j) {
        std::memcpy(&masks[j], row + j * stride + whole / 8, static_cast<std::size_t>(stride - whole / 8));
      }
      _mm512_mask_storeu_ps(out + whole, rest, centroids_of<bits>(masks, table, low));
    }
  }
}

void look_up(const ScalarTables& tables, const std::uint8_t* planes, std::int64_t rows, std::int64_t dim,
             float* y) {
  dispatch_bits(tables.bits, [&](auto bits) { look_up_bits<bits()>(tables, planes, rows, dim, y); });
}

}  // namespace

const ScalarKernels scalar_kernels_avx512 = {
    unit_factors, half_norms,   exact_norms,        quantize,
    look_up,      score_avx512, score_codes_avx512, score_integers_avx512};

}  // namespace rotorquant
#endif
