// Calibrated keys to codes, sixteen at a time: rows to columns; then of each coordinate, whose width all keys
// share, the bits of its symbols as masks, which become a bit of each key's words.
#include "rotorquant/quantizers/calibrated_columns.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <cstring>

#include "rotorquant/codes/plane_registers_avx512.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/core/transpose_avx512.hpp"
#include "rotorquant/quantizers/level_indices_avx512.hpp"
#include "rotorquant/quantizers/register_tables_avx512.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

// Masks of the bits of the number of boundaries strictly below y; `opposite`: where y is not above 0, which
// the highest bit says, the lower ones are the opposite.
template <int width>
class SymbolSearch {
 public:
  static constexpr bool opposite = true;
  ROTORQUANT_AVX512_INLINE explicit SymbolSearch(const NormalLevels& levels) : search_(levels.registers()) {}
  ROTORQUANT_AVX512_INLINE void operator()(__m512 y, __mmask16 (&masks)[width]) const {
    search_.compare(y, masks);
  }

 private:
  SymmetricSearch<width> search_;
};
template <>
class SymbolSearch<1> {
 public:
  static constexpr bool opposite = false;
  ROTORQUANT_AVX512_INLINE explicit SymbolSearch(const NormalLevels&) {}
  ROTORQUANT_AVX512_INLINE void operator()(__m512 y, __mmask16 (&masks)[1]) const {
    masks[0] = _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GT_OQ);
  }
};
template <int width>
requires(width > most_plane_codebook_bits) class SymbolSearch<width> {
 public:
  static constexpr bool opposite = false;
  ROTORQUANT_AVX512_INLINE explicit SymbolSearch(const NormalLevels& levels) : levels_(levels) {}
  ROTORQUANT_AVX512_INLINE void operator()(__m512 y, __mmask16 (&masks)[width]) const {
    const __m512i indices = indices_of(levels_, width, y);
    for (int j = 0; j < width; ++j) masks[j] = _mm512_test_epi32_mask(indices, _mm512_set1_epi32(1 << j));
  }

 private:
  const NormalLevels& levels_;
};

constexpr int halves = 2;  // of a block
static_assert(halves * lanes == cascade_lanes);

// A block's keys on their way to codes.
template <int registers>
struct Keys {
  const float* columns;
  const OffsetTables& offsets;
  __m512 inverse[halves];  // of their scales
  __m512i centroids[halves];

  ROTORQUANT_AVX512_INLINE __m512 y(int half, std::int64_t position) const {
    const __m512 column = _mm512_load_ps(columns + position * cascade_lanes + half * lanes);
    const float* table = offsets.of(0) + position * (registers > 0 ? registers * lanes : offsets.stride());
    return _mm512_mul_ps(_mm512_sub_ps(column, look_up<registers>(table, centroids[half])), inverse[half]);
  }
};

// Adds the bits of the symbols of positions [begin, end), all of this width and in the same block of 32:
// those of plane j to planes[j], a position's at the bit of its place in the block.
template <int width, int registers>
ROTORQUANT_AVX512_INLINE void search_positions(const Keys<registers>& keys, const NormalLevels& levels,
                                               std::int64_t begin, std::int64_t end,
                                               __m512i (&planes)[max_width][halves]) {
  const SymbolSearch<width> search(levels);
  __m512i bits[width][halves];
  for (auto& plane : bits) plane[0] = plane[1] = _mm512_setzero_si512();
  __m512i place = _mm512_set1_epi32(static_cast<std::int32_t>(1U << (begin % 32)));
  for (std::int64_t k = begin; k < end; ++k) {
    for (int h = 0; h < halves; ++h) {
      __mmask16 masks[width];
      search(keys.y(h, k), masks);
      for (int j = 0; j < width; ++j)
        bits[j][h] = _mm512_mask_or_epi32(bits[j][h], masks[j], bits[j][h], place);
    }
    place = _mm512_add_epi32(place, place);
  }
  const auto places = ((std::uint64_t{1} << (end - begin)) - 1) << (begin % 32);
  const __m512i own = _mm512_set1_epi32(static_cast<std::int32_t>(static_cast<std::uint32_t>(places)));
  for (int j = 0; j < width; ++j) {
    for (int h = 0; h < halves; ++h) {
      constexpr int equal_where = 0x82;  // c & ~(a ^ b)
      if (SymbolSearch<width>::opposite && j < width - 1)
        bits[j][h] = _mm512_ternarylogic_epi32(bits[j][h], bits[width - 1][h], own, equal_where);
      planes[j][h] = _mm512_or_si512(planes[j][h], bits[j][h]);
    }
  }
}

// Columns of words that bits are added to: the code from bit `bit` on.
ROTORQUANT_AVX512_INLINE void add_bits(float* words, std::int64_t bit, __m512i bits) {
  float* word = words + bit / 32 * lanes;
  const auto shift = static_cast<int>(bit % 32);
  const auto add = [](float* place, __m512i own) ROTORQUANT_AVX512_LAMBDA {
    _mm512_store_si512(place, _mm512_or_si512(_mm512_load_si512(place), own));
  };
  add(word, _mm512_sllv_epi32(bits, _mm512_set1_epi32(shift)));
  add(word + lanes, _mm512_srlv_epi32(bits, _mm512_set1_epi32(32 - shift)));
}

template <int registers>
ROTORQUANT_AVX512 void subtract_offsets_in(const OffsetTables& offsets, const std::int32_t* centroids,
                                           std::int64_t dim, const float* columns, float* out) {
  const __m512i own[halves] = {_mm512_loadu_si512(centroids), _mm512_loadu_si512(centroids + lanes)};
  for (std::int64_t k = 0; k < dim; ++k) {
    for (int h = 0; h < halves; ++h) {
      const __m512 column = _mm512_load_ps(columns + k * cascade_lanes + h * lanes);
      _mm512_store_ps(out + k * cascade_lanes + h * lanes,
                      _mm512_sub_ps(column, look_up<registers>(offsets.of(k), own[h])));
    }
  }
}

template <int registers>
ROTORQUANT_AVX512 void write_codes_in(const CalibratedLayout& layout, std::span<const NormalLevels> levels,
                                      const OffsetTables& centroids, const float* columns,
                                      const float* scales, const BlockFields& fields, std::int64_t count,
                                      std::uint8_t* codes) {
  const MixedPlanes& planes = *layout.planes;
  const std::int64_t used = planes.count_at_least(1);
  const std::int64_t padded = (layout.bytes + 63) / 64 * 16;  // words of a code
  const std::int64_t size = (padded + 1) * lanes;
  static thread_local ScratchFloats word_scratch, row_scratch;
  float* words = word_scratch.reserve(halves * size);
  float* rows = row_scratch.reserve(cascade_lanes * padded);
  std::fill_n(words, halves * size, 0.0F);
  const __m512 one = _mm512_set1_ps(1.0F);
  const Keys<registers> keys{
      columns,
      centroids,
      {_mm512_div_ps(one, _mm512_load_ps(scales)), _mm512_div_ps(one, _mm512_load_ps(scales + lanes))},
      {_mm512_load_si512(fields.centroids.data()), _mm512_load_si512(fields.centroids.data() + lanes)}};
  for (std::int64_t first = 0; first < used; first += 32) {
    const std::int64_t block_end = std::min(first + 32, used);
    __m512i bits[max_width][halves];
    for (auto& plane : bits) plane[0] = plane[1] = _mm512_setzero_si512();
    planes.for_widths(first, block_end, [&](auto width, std::int64_t k, std::int64_t end) ROTORQUANT_AVX512 {
      search_positions<width(), registers>(keys, levels[static_cast<std::size_t>(width())], k, end, bits);
    });
    std::int64_t plane_begin = 0;
    for (int j = 0; j < max_width && planes.count_at_least(j + 1) > first; ++j) {
      for (int h = 0; h < halves; ++h) add_bits(words + h * size, plane_begin + first, bits[j][h]);
      plane_begin += planes.count_at_least(j + 1);
    }
  }
  for (int h = 0; h < halves; ++h) {
    add_bits(words + h * size, planes.bits(), keys.centroids[h]);
    add_bits(words + h * size, planes.bits() + layout.centroid_bits,
             _mm512_load_si512(fields.scale_codes.data() + h * lanes));
    for (std::int64_t word = 0; word < padded; word += lanes) {
      __m512 square[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) square[i] = _mm512_load_ps(words + h * size + (word + i) * lanes);
      transpose_sixteen(square);
#pragma GCC unroll 16
      for (int v = 0; v < 16; ++v) _mm512_store_ps(rows + (h * lanes + v) * padded + word, square[v]);
    }
  }
  for (std::int64_t v = 0; v < count; ++v) {
    std::uint8_t* code = codes + v * layout.bytes;
    const float* row = rows + v * padded;
    // Whole registers where the codes behind, which come next, are long enough to take them.
    if ((count - v) * layout.bytes >= 4 * padded) {
      for (std::int64_t word = 0; word < padded; word += lanes)
        _mm512_storeu_ps(code + 4 * word, _mm512_load_ps(row + word));
    } else {
      std::memcpy(code, row, static_cast<std::size_t>(layout.bytes));
    }
  }
}

}  // namespace

void subtract_offsets_avx512(const OffsetTables& offsets, const std::int32_t* centroids, std::int64_t dim,
                             const float* columns, float* out) {
  dispatch_registers(offsets, [&](auto registers) {
    subtract_offsets_in<registers()>(offsets, centroids, dim, columns, out);
  });
}

void write_codes_avx512(const CalibratedLayout& layout, std::span<const NormalLevels> levels,
                        const OffsetTables& centroids, const float* columns, const float* scales,
                        const BlockFields& fields, std::int64_t count, std::uint8_t* codes) {
  dispatch_registers(centroids, [&](auto registers) {
    write_codes_in<registers()>(layout, levels, centroids, columns, scales, fields, count, codes);
  });
}

}  // namespace rotorquant
#endif
