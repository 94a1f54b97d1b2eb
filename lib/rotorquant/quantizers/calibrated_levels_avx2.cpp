// Calibrated codes to columns, 32 keys in four registers. Their codes have the same bit of the same
// coordinate in the same place: with the codes' 32-bit words in columns, a shift brings 32 coordinates' bits
// of a plane to a word's own 32 bits, for eight keys at once, and shifts and masks join the bits of eight
// symbols, or four, in a word.
#include "rotorquant/quantizers/calibrated_columns.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <utility>

#include "rotorquant/codes/register_tables_avx2.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/load_transposed_avx2.hpp"
#include "rotorquant/core/scratch.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

ROTORQUANT_AVX2_INLINE __m256i load_words(const void* words) {
  return _mm256_load_si256(static_cast<const __m256i*>(words));
}
ROTORQUANT_AVX2_INLINE void store_words(void* place, __m256i words) {
  _mm256_store_si256(static_cast<__m256i*>(place), words);
}

// Codes of 32 keys as columns of 32-bit words.
class CodeWords {
 public:
  // What it needs for codes of so many bytes, on whole cache lines.
  static std::int64_t floats(std::int64_t bytes) {
    return (padded(bytes) / 4 + 1) * cascade_lanes + padded(bytes) / 4 * lanes;
  }
  CodeWords(float* memory, std::int64_t bytes)
      : words_(memory), rows_(memory + (padded(bytes) / 4 + 1) * cascade_lanes) {}

  // codes [count, bytes]; keys from `count` on have zeros.
  ROTORQUANT_AVX2_INLINE void read(const std::uint8_t* codes, std::int64_t bytes, std::int64_t count) const {
    const std::int64_t own_words = padded(bytes) / 4;
    for (std::int64_t begin = 0; begin < cascade_lanes; begin += lanes) {
      const float* rows[lanes];
      for (std::int64_t i = 0; i < lanes; ++i) {
        const std::int64_t v = begin + i;
        const std::uint8_t* code = codes + v * bytes;
        rows[i] = reinterpret_cast<const float*>(code);
        // Whole registers of a code and of those behind it; a copy where none are.
        if (v * bytes + padded(bytes) <= count * bytes) continue;
        float* copy = rows_ + i * own_words;
        std::fill_n(copy, own_words, 0.0F);
        if (v < count) std::memcpy(copy, code, static_cast<std::size_t>(bytes));
        rows[i] = copy;
      }
      for (std::int64_t first = 0; first < own_words; first += lanes) {
        __m256 square[lanes];
        load_transposed([&](std::int64_t i) ROTORQUANT_AVX2_LAMBDA { return rows[i] + first; }, square);
        for (std::int64_t i = 0; i < lanes; ++i)
          _mm256_store_ps(words_ + (first + i) * cascade_lanes + begin, square[i]);
      }
    }
    std::fill_n(words_ + own_words * cascade_lanes, cascade_lanes, 0.0F);
  }

  // Of the keys [begin, begin + 8): 32 bits from bit `shift` of a word on; rest = 32 - shift.
  ROTORQUANT_AVX2_INLINE __m256i bits_from(std::int64_t begin, std::int64_t index, __m256i shift,
                                           __m256i rest) const {
    const float* word = words_ + index * cascade_lanes + begin;
    return _mm256_or_si256(_mm256_srlv_epi32(load_words(word), shift),
                           _mm256_sllv_epi32(load_words(word + cascade_lanes), rest));
  }
  ROTORQUANT_AVX2_INLINE __m256i number(std::int64_t begin, std::int64_t bit, int bits) const {
    const auto shift = static_cast<int>(bit % 32);
    return _mm256_and_si256(
        bits_from(begin, bit / 32, _mm256_set1_epi32(shift), _mm256_set1_epi32(32 - shift)),
        _mm256_set1_epi32((1 << bits) - 1));
  }

 private:
  static std::int64_t padded(std::int64_t bytes) { return (bytes + 31) / 32 * 32; }

  float* words_;  // [padded / 4 + 1, cascade_lanes]
  float* rows_;   // [lanes, padded / 4]
};

template <int left>
ROTORQUANT_AVX2_INLINE __m256i shift_left(__m256i bits) {
  if constexpr (left > 0) return _mm256_slli_epi32(bits, left);
  if constexpr (left < 0) return _mm256_srli_epi32(bits, -left);
  return bits;
}

// The symbols of a block of positions, the widest of `width` bits, to words [symbol_bits(width),
// cascade_lanes] of eight fields of 4 bits, or four of 8.
template <int width>
ROTORQUANT_AVX2 void join_planes(const CodeWords& words, const PlanePiece* pieces, std::int32_t* symbols) {
  constexpr int field_bits = LevelTables::symbol_bits(width);
  constexpr std::uint32_t fields = field_bits == 4 ? 0x11111111U : 0x01010101U;
  for (std::int64_t begin = 0; begin < cascade_lanes; begin += lanes) {
    __m256i bits[width];
    for (int j = 0; j < width; ++j) {
      const __m256i own = words.bits_from(begin, pieces[j].word, _mm256_set1_epi32(pieces[j].bit),
                                          _mm256_set1_epi32(pieces[j].rest));
      bits[j] = _mm256_and_si256(own, _mm256_set1_epi32(static_cast<std::int32_t>(pieces[j].own)));
    }
    // The symbols of positions r, r + field_bits, ... of the block lie in one word.
    const auto join = [&]<int r>() ROTORQUANT_AVX2_LAMBDA {
      __m256i joined = _mm256_setzero_si256();
      const auto add = [&]<int j>() ROTORQUANT_AVX2_LAMBDA {
        const __m256i places = _mm256_set1_epi32(static_cast<std::int32_t>(fields << j));
        joined = _mm256_or_si256(joined, _mm256_and_si256(shift_left<j - r>(bits[j]), places));
      };
      [&]<int... j>(std::integer_sequence<int, j...>) ROTORQUANT_AVX2_LAMBDA {
        (add.template operator()<j>(), ...);
      }
      (std::make_integer_sequence<int, width>());
      store_words(symbols + r * cascade_lanes + begin, joined);
    };
    [&]<int... r>(std::integer_sequence<int, r...>) ROTORQUANT_AVX2_LAMBDA {
      (join.template operator()<r>(), ...);
    }
    (std::make_integer_sequence<int, field_bits>());
  }
}

// The levels of positions [begin, end), all of this width.
template <int width>
ROTORQUANT_AVX2 void look_up_levels(const LevelTables& tables, std::int64_t begin, std::int64_t end,
                                    const std::int32_t* symbols, float* columns) {
  for (std::int64_t k = begin; k < end; ++k) {
    const SymbolPlace place = tables.symbol(k);
    const RegisterTable<width> table(tables.of(k));
    const __m256i bit = _mm256_set1_epi32(place.bit);
    const std::int32_t* word = symbols + place.word * cascade_lanes;
    float* column = columns + tables.slot(k) * cascade_lanes;
    for (std::int64_t v = 0; v < cascade_lanes; v += lanes)
      _mm256_store_ps(column + v, table(_mm256_srlv_epi32(load_words(word + v), bit)));
  }
}

}  // namespace

ROTORQUANT_AVX2 void read_levels_avx2(const CalibratedLayout& layout, const LevelTables& tables,
                                      const std::uint8_t* codes, std::int64_t count, float* columns,
                                      BlockFields& fields) {
  const MixedPlanes& planes = *layout.planes;
  static thread_local ScratchFloats scratch;
  const std::int64_t size = CodeWords::floats(layout.bytes);
  float* memory = scratch.reserve(size + tables.symbol_words() * cascade_lanes);
  const CodeWords words(memory, layout.bytes);
  auto* symbols = reinterpret_cast<std::int32_t*>(memory + size);
  words.read(codes, layout.bytes, count);
  for (std::int64_t v = 0; v < cascade_lanes; v += lanes) {
    store_words(fields.centroids.data() + v, words.number(v, planes.bits(), layout.centroid_bits));
    store_words(fields.scale_codes.data() + v,
                words.number(v, planes.bits() + layout.centroid_bits, layout.scale_bits));
  }
  std::int32_t* place = symbols;
  for (std::int64_t block = 0; block < tables.blocks(); ++block) {
    const int width = tables.width(block);
    // Positions without bits have one level, too.
    dispatch_bits(std::max(width, 1),
                  [&](auto widest) { join_planes<widest()>(words, tables.pieces(block), place); });
    place += LevelTables::symbol_bits(width) * cascade_lanes;
  }
  planes.for_widths(0, planes.dim(), [&](auto width, std::int64_t begin, std::int64_t end) {
    look_up_levels<width()>(tables, begin, end, symbols, columns);
  });
  look_up_levels<0>(tables, planes.count_at_least(1), planes.dim(), symbols, columns);
  run_steps(Isa::avx2, tables.first_steps(), columns);
}

}  // namespace rotorquant
#endif
