// Calibrated codes to columns, 32 keys in two halves. Their codes have the same bit of the same coordinate in
// the same place: with the codes' 32-bit words in columns, a shift brings 32 coordinates' bits of a plane to
// a word's own 32 bits, for all keys at once, and shifts and masks join the bits of eight symbols, or four,
// in a word. The cascade's first steps take their levels from tables, not from columns: in 512 bits, which
// the permutations that look them up need, even where run_steps() is faster in 256.
#include "rotorquant/quantizers/calibrated_columns.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <utility>

#include "rotorquant/codes/code_words_avx512.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/cascade_step_avx512.hpp"
#include "rotorquant/quantizers/register_tables_avx512.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

constexpr int halves = 2;  // of a block
static_assert(halves * lanes == cascade_lanes);

template <int left>
ROTORQUANT_AVX512_INLINE __m512i shift_left(__m512i bits) {
  if constexpr (left > 0) return _mm512_slli_epi32(bits, left);
  if constexpr (left < 0) return _mm512_srli_epi32(bits, -left);
  return bits;
}

// Symbols of up to `width` bits in fields of a word: eight of 4 bits, or four of 8.
template <int width>
struct SymbolFields {
  static constexpr int bits = LevelTables::symbol_bits(width);
  __m512i plane[width];  // bit j of each field

  ROTORQUANT_AVX512_INLINE SymbolFields() {
    for (int j = 0; j < width; ++j) {
      plane[j] = _mm512_set1_epi32(static_cast<std::int32_t>((bits == 4 ? 0x11111111U : 0x01010101U) << j));
      asm("" : "+v"(plane[j]));  // kept: made anew, a constant takes the unit that stores wait for
    }
  }
};

// The symbols of a block of positions, the widest of `width` bits, to words [bits, halves, 16].
template <int width>
ROTORQUANT_AVX512_INLINE void join_planes(const SymbolFields<width>& fields, std::span<const CodeWords> words,
                                          const PlanePiece* pieces, std::int32_t* symbols) {
  __m512i bits[halves][width];
  for (int j = 0; j < width; ++j) {
    const __m512i bit = _mm512_set1_epi32(pieces[j].bit), rest = _mm512_set1_epi32(pieces[j].rest);
    const __m512i own = _mm512_set1_epi32(static_cast<std::int32_t>(pieces[j].own));
    for (std::size_t h = 0; h < halves; ++h)
      bits[h][j] = _mm512_and_si512(words[h].bits_from(pieces[j].word, bit, rest), own);
  }
  // The symbols of positions r, r + fields.bits, ... of the block lie in one word.
  const auto join = [&]<int r>() ROTORQUANT_AVX512_LAMBDA {
    for (int h = 0; h < halves; ++h) {
      __m512i joined = _mm512_setzero_si512();
      const auto add = [&]<int j>() ROTORQUANT_AVX512_LAMBDA {
        joined = _mm512_or_si512(joined, _mm512_and_si512(shift_left<j - r>(bits[h][j]), fields.plane[j]));
      };
      [&]<int... j>(std::integer_sequence<int, j...>) ROTORQUANT_AVX512_LAMBDA {
        (add.template operator()<j>(), ...);
      }
      (std::make_integer_sequence<int, width>());
      _mm512_store_si512(symbols + r * cascade_lanes + h * lanes, joined);
    }
  };
  [&]<int... r>(std::integer_sequence<int, r...>) ROTORQUANT_AVX512_LAMBDA {
    (join.template operator()<r>(), ...);
  }
  (std::make_integer_sequence<int, SymbolFields<width>::bits>());
}

// Of the blocks [begin, end), all of this width.
template <int width>
ROTORQUANT_AVX512 void join_blocks(std::span<const CodeWords> words, const LevelTables& tables,
                                   std::int64_t begin, std::int64_t end, std::int32_t* symbols) {
  const SymbolFields<width> fields;
  for (std::int64_t block = begin; block < end; ++block) {
    join_planes(fields, words, tables.pieces(block), symbols);
    symbols += SymbolFields<width>::bits * cascade_lanes;
  }
}

// A position's symbols of sixteen keys at the lowest bits; above them lie others.
class SymbolReader {
 public:
  ROTORQUANT_AVX512_INLINE SymbolReader(const std::int32_t* symbols, SymbolPlace place)
      : word_(symbols + place.word * cascade_lanes), bit_(_mm512_set1_epi32(place.bit)) {}
  ROTORQUANT_AVX512_INLINE __m512i operator()(int half) const {
    return _mm512_srlv_epi32(_mm512_load_si512(word_ + half * lanes), bit_);
  }

 private:
  const std::int32_t* word_;
  __m512i bit_;
};

// The first steps of 32 keys.
ROTORQUANT_AVX512 void run_level_steps(std::span<const LevelStep> steps, const std::int32_t* symbols,
                                       float* columns) {
  for (const LevelStep& level_step : steps) {
    const CascadeStep& step = level_step.step;
    const StepFactors factors(step);
    __m512 tables[3];
    for (std::size_t i = 0; i < 3; ++i) tables[i] = _mm512_load_ps(level_step.levels[i].data());
    float* const column[3] = {columns + step.slots[0] * cascade_lanes,
                              columns + step.slots[1] * cascade_lanes,
                              columns + step.slots[2] * cascade_lanes};
    const SymbolReader read[3] = {
        {symbols, level_step.symbols[0]}, {symbols, level_step.symbols[1]}, {symbols, level_step.symbols[2]}};
#pragma GCC unroll 2
    for (int h = 0; h < halves; ++h) {
      const auto level = [&](std::size_t i) ROTORQUANT_AVX512_LAMBDA {
        return _mm512_permutexvar_ps(read[i](h), tables[i]);
      };
      factors.apply(level(0), level(1), level(2), column, h * lanes);
    }
  }
}

ROTORQUANT_AVX512 void look_up_rest(const LevelTables& tables, const std::int32_t* symbols, float* columns) {
  for (const LonePosition& lone : tables.lone_positions()) {
    const float* table = tables.of(lone.position);
    float* column = columns + tables.slot(lone.position) * cascade_lanes;
    const SymbolReader read(symbols, lone.symbol);
    const __m512i own = _mm512_set1_epi32((1 << lone.width) - 1);
    for (int h = 0; h < halves; ++h) {
      _mm512_store_ps(column + h * lanes, look_up(table, 1 << lone.width, _mm512_and_si512(read(h), own)));
    }
  }
}

}  // namespace

ROTORQUANT_AVX512 void read_levels_avx512(const CalibratedLayout& layout, const LevelTables& tables,
                                          const std::uint8_t* codes, std::int64_t count, float* columns,
                                          BlockFields& fields) {
  const MixedPlanes& planes = *layout.planes;
  static thread_local ScratchFloats scratch;
  const std::int64_t size = CodeWords::floats(layout.bytes);
  float* memory = scratch.reserve(halves * size + tables.symbol_words() * cascade_lanes);
  const CodeWords words[halves] = {CodeWords(memory), CodeWords(memory + size)};
  auto* symbols = reinterpret_cast<std::int32_t*>(memory + halves * size);
  for (std::int64_t half = 0; half < halves; ++half) {
    const CodeWords& own = words[half];
    const std::int64_t first = std::min(half * lanes, count);
    own.read(codes + first * layout.bytes, layout.bytes, std::min(count - first, lanes));
    _mm512_store_si512(fields.centroids.data() + half * lanes,
                       own.number(planes.bits(), layout.centroid_bits));
    _mm512_store_si512(fields.scale_codes.data() + half * lanes,
                       own.number(planes.bits() + layout.centroid_bits, layout.scale_bits));
  }
  std::int32_t* place = symbols;
  for (std::int64_t begin = 0, end = 0; begin < tables.blocks(); begin = end) {
    const int width = tables.width(begin);
    while (end < tables.blocks() && tables.width(end) == width) ++end;
    // Positions without bits have one level, too.
    dispatch_bits(std::max(width, 1),
                  [&](auto widest) { join_blocks<widest()>(words, tables, begin, end, place); });
    place += (end - begin) * LevelTables::symbol_bits(width) * cascade_lanes;
  }
  run_level_steps(tables.level_steps(), symbols, columns);
  look_up_rest(tables, symbols, columns);
  run_steps(Isa::avx512, tables.wide_steps(), columns);
}

}  // namespace rotorquant
#endif
