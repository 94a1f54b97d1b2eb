// AVX-512 (F, BW, DQ, VL) kernels of scalar codecs: a comparison's mask is a bit plane already, and centroids
// are a permutation of registers.
#include "rotorquant/quantizers/scalar_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/plane_registers_avx512.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/half.hpp"
#include "rotorquant/core/unit_rows_avx512.hpp"
#include "rotorquant/quantizers/scalar_search_avx512.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

void unit_factors(const ConstHostTensor& x, float* norms, float* factors) {
  dispatch_type(x.type, [&]<ElementType type>() { avx512::unit_factors<type>(x, norms, factors); });
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
