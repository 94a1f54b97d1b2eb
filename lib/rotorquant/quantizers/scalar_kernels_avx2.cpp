// AVX2 kernels of scalar codecs: comparisons' sign bits are bytes of planes, bytes of planes are spread to
// eight symbols by a table, and centroids are permutations of registers.
#include "rotorquant/quantizers/scalar_kernels_avx2.hpp"

#if defined(__x86_64__)
#include <array>
#include <bit>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/scalar_search_avx2.hpp"
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

// Entries of a table of 2^bits by their indices; what lies above an index's `bits` bits is ignored where bits
// <= 4.
template <int bits>
ROTORQUANT_AVX2_INLINE __m256 pick(const float* table, __m256i index) {
  if constexpr (bits <= 3) return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
  if constexpr (bits == 4) {
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index),
                            _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + lanes), index), upper);
  }
  return _mm256_i32gather_ps(table, index, sizeof(float));
}

// What ScalarSearch does, for more bits than fit registers.
template <int bits>
ROTORQUANT_AVX2_INLINE void search(const float* tree, __m256 y, __m256 (&masks)[bits]) {
  __m256i place = _mm256_set1_epi32(1);
  const auto step = [&]<int level>() ROTORQUANT_AVX2_LAMBDA {
    // tree[2^level, 2^(level + 1)): up to the third level in the first register.
    const float* table = level < 3 ? tree : tree + (1 << level);
    __m256i index = place;
    if constexpr (level > 4) index = _mm256_sub_epi32(place, _mm256_set1_epi32(1 << level));
    const __m256 above = _mm256_cmp_ps(y, pick < level < 3 ? 3 : level > (table, index), _CMP_GT_OQ);
    masks[bits - 1 - level] = above;
    place = _mm256_sub_epi32(_mm256_add_epi32(place, place), _mm256_castps_si256(above));
  };
  [&]<int... level>(std::integer_sequence<int, level...>) ROTORQUANT_AVX2_LAMBDA {
    (step.template operator()<level>(), ...);
  }
  (std::make_integer_sequence<int, bits>());
}

template <int bits>
ROTORQUANT_AVX2 void quantize_bits(const ScalarTables& tables, const float* y, std::int64_t rows,
                                   std::int64_t dim, std::uint8_t* planes) {
  const std::int64_t stride = plane_bytes(dim);
  const auto quantize_rows = [&](const auto& find) ROTORQUANT_AVX2_LAMBDA {
    for (std::int64_t r = 0; r < rows; ++r) {
      std::uint8_t* out = planes + r * bits * stride;
      for (std::int64_t c = 0; c < dim; c += lanes) {
        __m256 masks[bits];
        find(load<ElementType::float32>(y + r * dim, c, dim - c), masks);
        const auto valid = static_cast<unsigned>(dim - c >= lanes ? 0xFF : (1 << (dim - c)) - 1);
        for (int j = 0; j < bits; ++j) {
          const auto byte = static_cast<unsigned>(_mm256_movemask_ps(masks[j]));
          out[j * stride + c / lanes] = static_cast<std::uint8_t>(byte & valid);
        }
      }
    }
  };
  if constexpr (bits <= most_plane_codebook_bits) {
    quantize_rows(ScalarSearch<bits>(tables.tree.data()));
  } else {
    quantize_rows([&](__m256 y_c, __m256(&masks)[bits])
                      ROTORQUANT_AVX2_LAMBDA { search<bits>(tables.tree.data(), y_c, masks); });
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
  return pick<bits>(table, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(indices)));
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
