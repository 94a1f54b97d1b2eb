// Columns of calibrated keys to rows, sixteen keys at a time: with scales and offsets, then transposed as
// numbers of the rows' type.
#include "rotorquant/quantizers/calibrated_columns.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <type_traits>

#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/core/transpose_avx512.hpp"
#include "rotorquant/quantizers/register_tables_avx512.hpp"

namespace rotorquant {
namespace {

using namespace avx512;

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

void write_rows_avx512(const float* columns, const float* scales, const std::int32_t* centroids,
                       const OffsetTables& offsets, bool stream, const HostTensor& x) {
  const bool past_caches = stream && whole_lines(x);
  const RowEnds ends{columns, scales, centroids, offsets, x, past_caches};
  dispatch_type(x.type, [&]<ElementType type>() {
    dispatch_registers(offsets, [&](auto registers) { write_squares<type, registers()>(ends); });
  });
}

}  // namespace rotorquant
#endif
