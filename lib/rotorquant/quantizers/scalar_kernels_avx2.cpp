// AVX2 kernels of scalar codecs: comparisons' sign bits are bytes of planes, bytes of planes are spread to
// eight symbols by a table, and centroids are permutations of registers.
#include "rotorquant/quantizers/scalar_kernels.hpp"

#if defined(__x86_64__)
#include <array>
#include <bit>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/register_tables_avx2.hpp"
#include "rotorquant/codes/tree_search_avx2.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/core/unit_rows_avx2.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

template <ElementType type>
ROTORQUANT_AVX2 void unit_factors_type(const ConstHostTensor& x, float* norms, float* factors) {
  for (std::int64_t first = 0; first < x.rows; first += measured_rows) {
    float found[measured_rows];
    _mm_storeu_ps(
        found, measure_rows<type>(x, first, norms, [](int, std::int64_t, __m256) ROTORQUANT_AVX2_LAMBDA {}));
    std::copy_n(found, std::min<std::int64_t>(measured_rows, x.rows - first), factors + first);
  }
}

void unit_factors(const ConstHostTensor& x, float* norms, float* factors) {
  dispatch_type(x.type, [&]<ElementType type>() { unit_factors_type<type>(x, norms, factors); });
}

template <ElementType type>
ROTORQUANT_AVX2 void exact_norms_type(const ConstHostTensor& x, float* norms) {
  for (std::int64_t r = 0; r < x.rows; ++r) norms[r] = exact_norm<type>(x, r);
}

void exact_norms(const ConstHostTensor& x, float* norms) {
  dispatch_type(x.type, [&]<ElementType type>() { exact_norms_type<type>(x, norms); });
}

// By the norms at hand where their uncertainty does not reach another 16-bit number.
template <ElementType type>
ROTORQUANT_AVX2 void half_norms_type(const ConstHostTensor& x, const float* norms, std::uint8_t* halves) {
  const float uncertainty = norm_uncertainty(x.cols);
  const __m256 down = _mm256_set1_ps(1.0F - uncertainty), up = _mm256_set1_ps(1.0F + uncertainty);
  for (std::int64_t first = 0; first < x.rows; first += lanes) {
    const __m256 values = load<ElementType::float32>(norms, first, x.rows - first);
    const __m128i low = narrow<ElementType::float16>(_mm256_mul_ps(values, down));
    const __m128i high = narrow<ElementType::float16>(_mm256_mul_ps(values, up));
    const __m128i same = _mm_packs_epi16(_mm_cmpeq_epi16(low, high), _mm_setzero_si128());
    unsigned doubtful = ~static_cast<unsigned>(_mm_movemask_epi8(same)) & 0xFFU;
    std::uint16_t found[lanes];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(found), low);
    const std::int64_t count = std::min(lanes, x.rows - first);
    std::memcpy(halves + 2 * first, found, static_cast<std::size_t>(2 * count));
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
ROTORQUANT_AVX2 void quantize_bits(const ScalarTables& tables, const float* y, std::int64_t rows,
                                   std::int64_t dim, std::uint8_t* planes) {
  const std::int64_t stride = plane_bytes(dim);
  const TreeSearch<bits> search(tables.tree.data());
  for (std::int64_t r = 0; r < rows; ++r) {
    std::uint8_t* out = planes + r * bits * stride;
    for (std::int64_t c = 0; c < dim; c += lanes) {
      __m256 masks[bits];
      search(load<ElementType::float32>(y + r * dim, c, dim - c), masks);
      const auto valid = static_cast<unsigned>(dim - c >= lanes ? 0xFF : (1 << (dim - c)) - 1);
      for (int j = 0; j < bits; ++j) {
        const auto byte = static_cast<unsigned>(_mm256_movemask_ps(masks[j]));
        out[j * stride + c / lanes] = static_cast<std::uint8_t>(byte & valid);
      }
    }
  }
}

void quantize(const ScalarTables& tables, const float* y, std::int64_t rows, std::int64_t dim,
              std::uint8_t* planes) {
  dispatch_bits(tables.bits, [&](auto bits) { quantize_bits<bits()>(tables, y, rows, dim, planes); });
}

// Bit i of a byte in byte i.
constexpr std::array<std::uint64_t, 256> spread = [] {
  std::array<std::uint64_t, 256> words{};
  for (std::size_t byte = 0; byte < words.size(); ++byte) {
    for (std::size_t i = 0; i < 8; ++i) words[byte] |= static_cast<std::uint64_t>(byte >> i & 1) << (8 * i);
  }
  return words;
}();

// The indices of eight coordinates, a byte each, from byte `byte` of each plane.
template <int bits>
ROTORQUANT_AVX2_INLINE std::uint64_t index_bytes(const std::uint8_t* row, std::int64_t stride,
                                                 std::int64_t byte) {
  std::uint64_t indices = 0;
  for (int j = 0; j < bits; ++j) indices |= spread[row[j * stride + byte]] << j;
  return indices;
}

// The centroids of coordinates [c, c + 8).
template <int bits>
ROTORQUANT_AVX2_INLINE __m256 centroids_of(const float* table, const std::uint8_t* row, std::int64_t stride,
                                           std::int64_t c) {
  const auto indices = static_cast<long long>(index_bytes<bits>(row, stride, c / lanes));
  return RegisterTable<bits>(table)(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(indices)));
}

template <int bits>
ROTORQUANT_AVX2 void look_up_bits(const ScalarTables& tables, const std::uint8_t* planes, std::int64_t rows,
                                  std::int64_t dim, float* y) {
  const float* table = tables.centroids.data();
  const std::int64_t stride = plane_bytes(dim);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < dim; c += lanes) {
      store<ElementType::float32>(centroids_of<bits>(table, planes + r * bits * stride, stride, c),
                                  y + r * dim, c, dim - c);
    }
  }
}

void look_up(const ScalarTables& tables, const std::uint8_t* planes, std::int64_t rows, std::int64_t dim,
             float* y) {
  dispatch_bits(tables.bits, [&](auto bits) { look_up_bits<bits()>(tables, planes, rows, dim, y); });
}

}  // namespace

const ScalarKernels scalar_kernels_avx2 = {unit_factors, half_norms, exact_norms,      quantize,
                                           look_up,      score_avx2, score_codes_avx2, score_integers_avx2};

}  // namespace rotorquant
#endif
