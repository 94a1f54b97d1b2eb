// Sixteen calibrated keys at a time. Their codes have the same bit of the same coordinate in the same place:
// with the codes' 32-bit words in columns, a shift brings 32 coordinates' bits of a plane to a word's own 32
// bits, for all keys at once, and shifts and masks put the bits of four symbols into its four bytes.
#include "rotorquant/quantizers/calibrated_columns.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <type_traits>
#include <utility>

#include "rotorquant/codes/code_words_avx512.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/core/transpose_avx512.hpp"
#include "rotorquant/quantizers/register_tables_avx512.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

// The levels of a symbol in the lowest byte of each lane.
template <int widest>
ROTORQUANT_AVX512_INLINE __m512 levels_of(const float* table, __m512i symbols) {
  constexpr int registers = registers_of(1 << widest);
  if constexpr (registers == 0) symbols = _mm512_and_si512(symbols, _mm512_set1_epi32(0xFF));
  return look_up<registers>(table, symbols);
}

template <int left>
ROTORQUANT_AVX512_INLINE __m512i shift_left(__m512i bits) {
  if constexpr (left > 0) return _mm512_slli_epi32(bits, left);
  if constexpr (left < 0) return _mm512_srli_epi32(bits, -left);
  return bits;
}

// Symbols of up to `width` bits in fields of a word: eight of 4 bits, or four of 8.
template <int width>
struct SymbolFields {
  static constexpr int bits = width <= 4 ? 4 : 8;
  static constexpr int count = 32 / bits;
  __m512i plane[width];  // bit j of each field

  ROTORQUANT_AVX512_INLINE SymbolFields() {
    for (int j = 0; j < width; ++j) {
      plane[j] = _mm512_set1_epi32(static_cast<std::int32_t>((bits == 4 ? 0x11111111U : 0x01010101U) << j));
      asm("" : "+v"(plane[j]));  // kept: made anew, a constant takes the unit that stores wait for
    }
  }
};

// The levels of a block of positions, the widest of `width` bits, of sixteen keys, to columns(slots).
template <int width, bool whole>
ROTORQUANT_AVX512_INLINE void levels_of_block(const SymbolFields<width>& fields, const CodeWords& words,
                                              const LevelTables& tables, std::int64_t block,
                                              std::span<const std::int32_t> slots, float* columns) {
  __m512i bits[width];
  const PlanePiece* pieces = tables.pieces(block);
  for (int j = 0; j < width; ++j) {
    const __m512i piece =
        words.bits_from(pieces[j].word, _mm512_set1_epi32(pieces[j].bit), _mm512_set1_epi32(pieces[j].rest));
    bits[j] = _mm512_and_si512(piece, _mm512_set1_epi32(static_cast<std::int32_t>(pieces[j].own)));
  }
  const std::int64_t first = block * LevelTables::together;
  const std::int64_t left = std::ssize(slots) - first;
  const std::int32_t* slot = slots.data() + first;
  const float* table = tables.of(first);
  constexpr std::int64_t table_length = std::max<std::int64_t>(lanes, 1 << width);
  // The symbols of positions r, r + fields.bits, ... of the block lie in one word.
  const auto positions = [&]<int r>() ROTORQUANT_AVX512_LAMBDA {
    __m512i symbols = _mm512_setzero_si512();
    const auto add = [&]<int j>() ROTORQUANT_AVX512_LAMBDA {
      symbols = _mm512_or_si512(symbols, _mm512_and_si512(shift_left<j - r>(bits[j]), fields.plane[j]));
    };
    [&]<int... j>(std::integer_sequence<int, j...>) ROTORQUANT_AVX512_LAMBDA {
      (add.template operator()<j>(), ...);
    }
    (std::make_integer_sequence<int, width>());
    const auto put = [&]<int q>() ROTORQUANT_AVX512_LAMBDA {
      constexpr int place = r + SymbolFields<width>::bits * q;
      if (!whole && place >= left) return;
      const __m512i symbol = _mm512_srli_epi32(symbols, SymbolFields<width>::bits * q);
      _mm512_store_ps(columns + slot[place] * cascade_lanes,
                      levels_of<width>(table + place * table_length, symbol));
    };
    [&]<int... q>(std::integer_sequence<int, q...>) ROTORQUANT_AVX512_LAMBDA {
      (put.template operator()<q>(), ...);
    }
    (std::make_integer_sequence<int, SymbolFields<width>::count>());
  };
  [&]<int... r>(std::integer_sequence<int, r...>) ROTORQUANT_AVX512_LAMBDA {
    (positions.template operator()<r>(), ...);
  }
  (std::make_integer_sequence<int, SymbolFields<width>::bits>());
}

// Of the blocks [begin, end), all of this width; whole but for the last of all.
template <int width>
ROTORQUANT_AVX512 void levels_of_blocks(std::span<const CodeWords> halves, const LevelTables& tables,
                                        std::int64_t begin, std::int64_t end,
                                        std::span<const std::int32_t> slots, float* columns) {
  const SymbolFields<width> fields;
  for (std::int64_t block = begin; block < end; ++block) {
    for (const CodeWords& words : halves) {
      float* own = columns + (&words - halves.data()) * lanes;
      if ((block + 1) * LevelTables::together <= std::ssize(slots)) {
        levels_of_block<width, true>(fields, words, tables, block, slots, own);
      } else {
        levels_of_block<width, false>(fields, words, tables, block, slots, own);
      }
    }
  }
}

// Where the columns of a block go.
struct RowEnds {
  const float* columns;
  const float* scales;
  const std::int32_t* centroids;
  const OffsetTables& offsets;
  const HostTensor& x;
  bool past_caches;
};

// Coordinates of sixteen keys from `begin` on, with scales and offsets.
template <int registers>
class FinishedColumns {
 public:
  ROTORQUANT_AVX512_INLINE FinishedColumns(const RowEnds& ends, std::int64_t begin)
      : columns_(ends.columns + begin),
        offsets_(ends.offsets.of(0)),
        stride_(ends.offsets.stride()),
        scale_(_mm512_load_ps(ends.scales + begin)),
        centroids_(_mm512_load_si512(ends.centroids + begin)) {}

  ROTORQUANT_AVX512_INLINE __m512 operator()(std::int64_t coordinate) const {
    const __m512 column = _mm512_load_ps(columns_ + coordinate * cascade_lanes);
    const float* table = offsets_ + coordinate * (registers > 0 ? registers * lanes : stride_);
    return _mm512_fmadd_ps(scale_, column, look_up<registers>(table, centroids_));
  }

 private:
  const float* columns_;
  const float* offsets_;
  std::int64_t stride_;
  __m512 scale_;
  __m512i centroids_;
};

// A register of a row: the `valid` numbers of it that the row has.
template <typename Number>
ROTORQUANT_AVX512_INLINE void store_numbers(Number* place, __m512i numbers, std::int64_t valid,
                                            bool past_caches) {
  constexpr std::int64_t together = 64 / sizeof(Number);
  if (past_caches) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(place), numbers);
  } else if (valid >= together) {
    _mm512_storeu_si512(place, numbers);
  } else if constexpr (sizeof(Number) == 2) {
    _mm512_mask_storeu_epi16(place, (1U << valid) - 1U, numbers);
  } else {
    _mm512_mask_storeu_epi32(place, lanes_below(valid), numbers);
  }
}

// Coordinates [first, first + 32) of 16 bits, or [first, first + 16) of 32, of the keys [begin, begin + 16).
// `whole`: all of them lie in x.
template <ElementType type, bool whole, int registers>
ROTORQUANT_AVX512 void write_square(const RowEnds& ends, std::int64_t begin, std::int64_t first) {
  using Number = std::conditional_t<type == ElementType::float32, float, std::uint16_t>;
  const FinishedColumns<registers> column(ends, begin);
  const std::int64_t left = whole ? 2 * lanes : ends.x.cols - first;
  const std::int64_t count = whole ? lanes : std::min(lanes, ends.x.rows - begin);
  const std::int64_t row_numbers = ends.x.cols;
  const bool past_caches = ends.past_caches;
  Number* place = reinterpret_cast<Number*>(ends.x.row(begin)) + first;
  __m512i rows[16];
  if constexpr (type == ElementType::float32) {
    __m512 floats[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) floats[i] = i < left ? column(first + i) : _mm512_setzero_ps();
    transpose_sixteen(floats);
#pragma GCC unroll 16
    for (int v = 0; v < 16; ++v) rows[v] = _mm512_castps_si512(floats[v]);
  } else {
    const auto narrowed = [&](std::int64_t i) ROTORQUANT_AVX512_LAMBDA {
      return i < left ? narrow<type>(column(first + i)) : _mm256_setzero_si256();
    };
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      rows[i] = _mm512_inserti64x4(_mm512_castsi256_si512(narrowed(i)), narrowed(lanes + i), 1);
    }
    transpose_halves(rows);
  }
#pragma GCC unroll 16
  for (int v = 0; v < 16; ++v) {
    if (v >= count) break;
    store_numbers(place + v * row_numbers, rows[v], left, past_caches);
  }
}

template <ElementType type, int registers>
void write_squares(const RowEnds& ends) {
  constexpr std::int64_t together = 64 / element_bytes(type);
  for (std::int64_t first = 0; first < ends.x.cols; first += together) {
    for (std::int64_t begin = 0; begin < ends.x.rows; begin += lanes) {
      if (first + together <= ends.x.cols && begin + lanes <= ends.x.rows) {
        write_square<type, true, registers>(ends, begin, first);
      } else {
        write_square<type, false, registers>(ends, begin, first);
      }
    }
  }
}

}  // namespace

ROTORQUANT_AVX512 void read_levels_avx512(const CalibratedLayout& layout, const LevelTables& tables,
                                          std::span<const std::int32_t> slots, const std::uint8_t* codes,
                                          std::int64_t count, float* columns, BlockFields& fields) {
  const MixedPlanes& planes = *layout.planes;
  static thread_local ScratchFloats scratch;
  const std::int64_t size = CodeWords::floats(layout.bytes);
  float* memory = scratch.reserve(2 * size);
  const CodeWords halves[2] = {CodeWords(memory), CodeWords(memory + size)};
  for (std::int64_t half = 0; half * lanes < count; ++half) {
    const CodeWords& words = halves[half];
    words.read(codes + half * lanes * layout.bytes, layout.bytes, count - half * lanes);
    _mm512_store_si512(fields.centroids.data() + half * lanes,
                       words.number(planes.bits(), layout.centroid_bits));
    _mm512_store_si512(fields.scale_codes.data() + half * lanes,
                       words.number(planes.bits() + layout.centroid_bits, layout.scale_bits));
  }
  const std::span<const CodeWords> used(halves, count > lanes ? 2 : 1);
  const std::int64_t blocks = (planes.dim() + LevelTables::together - 1) / LevelTables::together;
  for (std::int64_t begin = 0, end = 0; begin < blocks; begin = end) {
    const int width = tables.width(begin);
    while (end < blocks && tables.width(end) == width) ++end;
    // Positions without bits have one level, too.
    dispatch_bits(std::max(width, 1),
                  [&](auto widest) { levels_of_blocks<widest()>(used, tables, begin, end, slots, columns); });
  }
}

void write_rows_avx512(const float* columns, const float* scales, const std::int32_t* centroids,
                       const OffsetTables& offsets, bool stream, const HostTensor& x) {
  constexpr std::int64_t line = 64;
  const bool past_caches = stream && x.cols * element_bytes(x.type) % line == 0 &&
                           reinterpret_cast<std::uintptr_t>(x.data) % line == 0;
  const RowEnds ends{columns, scales, centroids, offsets, x, past_caches};
  dispatch_type(x.type, [&]<ElementType type>() {
    dispatch_registers(offsets, [&](auto registers) { write_squares<type, registers()>(ends); });
  });
}

}  // namespace rotorquant
#endif
