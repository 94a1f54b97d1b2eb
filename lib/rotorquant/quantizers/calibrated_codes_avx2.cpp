// Calibrated keys to codes, eight at a time: of each coordinate, whose width all keys share, the bits of its
// symbols as masks, which become a bit of each key's words; these to rows in the end. What a key's centroid
// takes from its coordinates comes as rows of the centroids and is transposed.
#include "rotorquant/quantizers/calibrated_columns.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/codes/tree_search_avx2.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/load_transposed_avx2.hpp"
#include "rotorquant/core/scratch.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

// Positions [first, first + 8), as far as they lie below `end`, of eight keys, less those of their centroids:
// columns and out [.., stride].
class Residuals {
 public:
  ROTORQUANT_AVX2_INLINE Residuals(const OffsetTables& offsets, const std::int32_t* centroids) {
    for (std::int64_t v = 0; v < lanes; ++v) rows_[v] = offsets.row(centroids[v]);
  }
  // put(i, of position first + i).
  template <typename Put>
  ROTORQUANT_AVX2_INLINE void operator()(const float* columns, std::int64_t first, std::int64_t end,
                                         const Put& put) const {
    __m256 square[lanes];
    load_transposed([&](std::int64_t v) ROTORQUANT_AVX2_LAMBDA { return rows_[v] + first; }, square);
    const std::int64_t count = std::min(lanes, end - first);
#pragma GCC unroll 8
    for (std::int64_t i = 0; i < lanes; ++i) {
      if (i >= count) break;
      put(i, _mm256_sub_ps(_mm256_load_ps(columns + (first + i) * cascade_lanes), square[i]));
    }
  }

 private:
  const float* rows_[lanes];
};

constexpr std::int64_t together = 32;  // positions of a block

// Adds the bits of the symbols of positions [begin, end) of a block, all of this width, to words of each
// plane: a position's at the bit of its place. y [together, lanes], planes [width].
template <int width>
ROTORQUANT_AVX2 void search_positions(const float* y, const NormalLevels& levels, std::int64_t begin,
                                      std::int64_t end, __m256i* planes) {
  const TreeSearch<width> search(levels.tree());
  __m256i bits[width];
  for (__m256i& plane : bits) plane = _mm256_setzero_si256();
  __m256i place = _mm256_set1_epi32(static_cast<std::int32_t>(1U << begin));
  for (std::int64_t k = begin; k < end; ++k) {
    __m256 masks[width];
    search(_mm256_load_ps(y + k * lanes), masks);
    for (int j = 0; j < width; ++j)
      bits[j] = _mm256_or_si256(bits[j], _mm256_and_si256(_mm256_castps_si256(masks[j]), place));
    place = _mm256_add_epi32(place, place);
  }
  for (int j = 0; j < width; ++j) planes[j] = _mm256_or_si256(planes[j], bits[j]);
}

// Columns of words that bits are added to: the code from bit `bit` on.
ROTORQUANT_AVX2_INLINE void add_bits(float* words, std::int64_t bit, __m256i bits) {
  auto* word = reinterpret_cast<__m256i*>(words + bit / 32 * lanes);
  const auto shift = static_cast<int>(bit % 32);
  const __m256i low = _mm256_sllv_epi32(bits, _mm256_set1_epi32(shift));
  const __m256i high = _mm256_srlv_epi32(bits, _mm256_set1_epi32(32 - shift));
  _mm256_store_si256(word, _mm256_or_si256(_mm256_load_si256(word), low));
  _mm256_store_si256(word + 1, _mm256_or_si256(_mm256_load_si256(word + 1), high));
}

// A block's keys on their way to codes.
struct Keys {
  const CalibratedLayout& layout;
  std::span<const NormalLevels> levels;
  const OffsetTables& centroids;
  const float* columns;
  const float* scales;
  const BlockFields& fields;
};

// The codes of keys [begin, begin + 8) to rows [8, padded] of words; words [padded + 1, lanes].
ROTORQUANT_AVX2 void write_words(const Keys& keys, std::int64_t begin, std::int64_t padded, float* words,
                                 float* rows) {
  const MixedPlanes& planes = *keys.layout.planes;
  const std::int64_t used = planes.count_at_least(1);
  const Residuals residuals(keys.centroids, keys.fields.centroids.data() + begin);
  const __m256 inverse = _mm256_div_ps(_mm256_set1_ps(1.0F), _mm256_load_ps(keys.scales + begin));
  std::fill_n(words, (padded + 1) * lanes, 0.0F);
  alignas(32) float y[together * lanes];
  for (std::int64_t first = 0; first < used; first += together) {
    const std::int64_t block_end = std::min(first + together, used);
    for (std::int64_t k = first; k < block_end; k += lanes) {
      float* own = y + (k - first) * lanes;
      residuals(keys.columns + begin, k, block_end, [&](std::int64_t i, __m256 x) ROTORQUANT_AVX2_LAMBDA {
        _mm256_store_ps(own + i * lanes, _mm256_mul_ps(x, inverse));
      });
    }
    __m256i bits[max_width];
    for (__m256i& plane : bits) plane = _mm256_setzero_si256();
    planes.for_widths(first, block_end, [&](auto width, std::int64_t k, std::int64_t end) {
      search_positions<width()>(y, keys.levels[static_cast<std::size_t>(width())], k - first, end - first,
                                bits);
    });
    std::int64_t plane_begin = 0;
    for (int j = 0; j < max_width && planes.count_at_least(j + 1) > first; ++j) {
      add_bits(words, plane_begin + first, bits[j]);
      plane_begin += planes.count_at_least(j + 1);
    }
  }
  const auto load_eight = [&](const auto& numbers) ROTORQUANT_AVX2_LAMBDA {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(numbers.data() + begin));
  };
  add_bits(words, planes.bits(), load_eight(keys.fields.centroids));
  add_bits(words, planes.bits() + keys.layout.centroid_bits, load_eight(keys.fields.scale_codes));
  for (std::int64_t word = 0; word < padded; word += lanes) {
    __m256 square[lanes];
    load_transposed([&](std::int64_t i) ROTORQUANT_AVX2_LAMBDA { return words + (word + i) * lanes; },
                    square);
    for (std::int64_t v = 0; v < lanes; ++v) _mm256_store_ps(rows + v * padded + word, square[v]);
  }
}

}  // namespace

ROTORQUANT_AVX2 void subtract_offsets_avx2(const OffsetTables& offsets, const std::int32_t* centroids,
                                           std::int64_t dim, const float* columns, float* out) {
  for (std::int64_t begin = 0; begin < cascade_lanes; begin += lanes) {
    const Residuals residuals(offsets, centroids + begin);
    for (std::int64_t first = 0; first < dim; first += lanes) {
      float* own = out + first * cascade_lanes + begin;
      residuals(columns + begin, first, dim, [&](std::int64_t i, __m256 x) ROTORQUANT_AVX2_LAMBDA {
        _mm256_store_ps(own + i * cascade_lanes, x);
      });
    }
  }
}

ROTORQUANT_AVX2 void write_codes_avx2(const CalibratedLayout& layout, std::span<const NormalLevels> levels,
                                      const OffsetTables& centroids, const float* columns,
                                      const float* scales, const BlockFields& fields, std::int64_t count,
                                      std::uint8_t* codes) {
  const std::int64_t padded = (layout.bytes + 31) / 32 * lanes;  // words of a code
  static thread_local ScratchFloats scratch;
  float* words = scratch.reserve((2 * padded + 1) * lanes);
  float* rows = words + (padded + 1) * lanes;
  const Keys keys{layout, levels, centroids, columns, scales, fields};
  for (std::int64_t v = 0; v < count; ++v) {
    if (v % lanes == 0) write_words(keys, v, padded, words, rows);
    std::uint8_t* code = codes + v * layout.bytes;
    const float* row = rows + v % lanes * padded;
    // Whole registers where the codes behind, which come next, are long enough to take them.
    if ((count - v) * layout.bytes >= 4 * padded) {
      for (std::int64_t word = 0; word < padded; word += lanes)
        _mm256_storeu_ps(reinterpret_cast<float*>(code) + word, _mm256_load_ps(row + word));
    } else {
      std::memcpy(code, row, static_cast<std::size_t>(layout.bytes));
    }
  }
}

}  // namespace rotorquant
#endif
