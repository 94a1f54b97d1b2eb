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

// Positions [first, first + 32), the widest of `width` bits, of sixteen keys.
template <int width>
ROTORQUANT_AVX512_INLINE void levels_of_block(const MixedPlanes& planes, const CodeWords& words,
                                              const LevelTables& tables, const std::int32_t* slots,
                                              std::int64_t first, float* columns) {
  __m512i bits[width];
  std::int64_t plane_begin = 0;
  for (int j = 0; j < width; ++j) {
    const std::int64_t count = planes.count_at_least(j + 1);
    bits[j] = words.bits_from(plane_begin + first);
    const std::int64_t own = std::max<std::int64_t>(0, count - first);
    if (own < 32)
      bits[j] = _mm512_and_si512(bits[j], _mm512_set1_epi32(static_cast<std::int32_t>((1U << own) - 1U)));
    plane_begin += count;
  }
  const std::int64_t left = planes.dim() - first;
  const float* const* table = tables.of(first);
  const auto positions = [&]<int r>() ROTORQUANT_AVX512_LAMBDA {
    // Byte q of a lane: the symbol of position first + r + 8 q.
    __m512i symbols = _mm512_setzero_si512();
    const auto add = [&]<int j>() ROTORQUANT_AVX512_LAMBDA {
      constexpr int or_and = 0xF8;  // a | (b & c)
      const __m512i own = _mm512_set1_epi32(0x01010101 << j);
      symbols = _mm512_ternarylogic_epi32(symbols, shift_left<j - r>(bits[j]), own, or_and);
    };
    [&]<int... j>(std::integer_sequence<int, j...>) ROTORQUANT_AVX512_LAMBDA {
      (add.template operator()<j>(), ...);
    }
    (std::make_integer_sequence<int, width>());
    const auto put = [&]<int q>() ROTORQUANT_AVX512_LAMBDA {
      constexpr int place = r + 8 * q;
      if (place >= left) return;
      _mm512_store_ps(columns + slots[first + place] * cascade_lanes,
                      levels_of<width>(table[place], _mm512_srli_epi32(symbols, 8 * q)));
    };
    put.template operator()<0>();
    put.template operator()<1>();
    put.template operator()<2>();
    put.template operator()<3>();
  };
  [&]<int... r>(std::integer_sequence<int, r...>) ROTORQUANT_AVX512_LAMBDA {
    (positions.template operator()<r>(), ...);
  }
  (std::make_integer_sequence<int, 8>());
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
  for (std::int64_t first = 0; first < planes.dim(); first += 32) {
    int width = 1;
    while (width < max_width && planes.count_at_least(width + 1) > first) ++width;
    dispatch_bits(width, [&](auto widest) ROTORQUANT_AVX512_LAMBDA {
      for (std::int64_t half = 0; half * lanes < count; ++half)
        levels_of_block<widest()>(planes, halves[half], tables, slots.data(), first, columns + half * lanes);
    });
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
