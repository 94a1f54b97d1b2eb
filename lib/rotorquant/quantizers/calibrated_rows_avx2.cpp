// Columns of calibrated keys to rows, eight keys at a time: transposed, then with scales and their centroids'
// offsets, of which rows are at hand whatever their number.
#include "rotorquant/quantizers/calibrated_columns.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/core/load_transposed_avx2.hpp"
#include "rotorquant/core/scaled_rows.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

constexpr std::int64_t line = 64;  // bytes
constexpr std::int64_t half = line / 2;

// Where the columns of a block go.
struct RowEnds {
  const float* columns;
  const float* scales;
  const std::int32_t* centroids;
  const OffsetTables& offsets;
  const HostTensor& x;
};

// Of eight keys, from `begin` on.
class FinishedRows {
 public:
  ROTORQUANT_AVX2_INLINE FinishedRows(const RowEnds& ends, std::int64_t begin)
      : columns_(ends.columns + begin), scales_(ends.scales + begin), dim_(ends.x.cols) {
    for (std::int64_t v = 0; v < lanes; ++v) offsets_[v] = ends.offsets.row(ends.centroids[begin + v]);
  }

  // Coordinates [first, first + 8), those beyond the last being of no meaning, to rows of whole lines.
  template <ElementType type>
  ROTORQUANT_AVX2_INLINE void write(std::int64_t first, std::uint8_t* rows) const {
    const float* column = columns_ + first * cascade_lanes;
    const std::int64_t last = std::min(lanes, dim_ - first) - 1;
    __m256 square[lanes];
    if (last == lanes - 1) {
      load_transposed([&](std::int64_t i) ROTORQUANT_AVX2_LAMBDA { return column + i * cascade_lanes; },
                      square);
    } else {
      load_transposed([&](std::int64_t i)
                          ROTORQUANT_AVX2_LAMBDA { return column + std::min(i, last) * cascade_lanes; },
                      square);
    }
#pragma GCC unroll 8
    for (std::int64_t v = 0; v < lanes; ++v) {
      const __m256 scale = _mm256_broadcast_ss(scales_ + v);
      const __m256 offset = _mm256_loadu_ps(offsets_[v] + first);
      store<type>(_mm256_fmadd_ps(scale, square[v], offset), rows + v * line, 0);
    }
  }

 private:
  const float* columns_;
  const float* scales_;
  const float* offsets_[lanes];
  std::int64_t dim_;
};

// Lines of the keys [begin, begin + 8), as far as x has them.
template <bool past_caches>
ROTORQUANT_AVX2_INLINE void write_lines(const HostTensor& x, const std::uint8_t* lines, std::int64_t begin,
                                        std::int64_t first_byte) {
  const std::int64_t row_bytes = x.cols * element_bytes(x.type);
  const std::int64_t count = std::min(lanes, x.rows - begin);
  const std::int64_t bytes = std::min(line, row_bytes - first_byte);
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint8_t* place = x.row(begin + i) + first_byte;
    const auto* from = reinterpret_cast<const __m256i*>(lines + i * line);
    if constexpr (past_caches) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(place), _mm256_load_si256(from));
      _mm256_stream_si256(reinterpret_cast<__m256i*>(place) + 1, _mm256_load_si256(from + 1));
    } else {
      std::int64_t done = 0;
      for (; done + half <= bytes; done += half)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(place + done), _mm256_load_si256(from++));
      if (done < bytes) std::memcpy(place + done, from, static_cast<std::size_t>(bytes - done));
    }
  }
}

template <ElementType type, bool past_caches>
ROTORQUANT_AVX2 void write_rows_of(const RowEnds& ends) {
  constexpr std::int64_t together = line / element_bytes(type);
  alignas(line) std::uint8_t lines[lanes * line];
  for (std::int64_t begin = 0; begin < ends.x.rows; begin += lanes) {
    const FinishedRows finished(ends, begin);
    for (std::int64_t first = 0; first < ends.x.cols; first += together) {
      for (std::int64_t own = 0; own < together && first + own < ends.x.cols; own += lanes)
        finished.write<type>(first + own, lines + own * element_bytes(type));
      write_lines<past_caches>(ends.x, lines, begin, first * element_bytes(type));
    }
  }
}

}  // namespace

void write_rows_avx2(const float* columns, const float* scales, const std::int32_t* centroids,
                     const OffsetTables& offsets, bool stream, const HostTensor& x) {
  const bool past_caches = stream && whole_lines(x);
  const RowEnds ends{columns, scales, centroids, offsets, x};
  dispatch_type(x.type, [&]<ElementType type>() {
    if (past_caches) return write_rows_of<type, true>(ends);
    write_rows_of<type, false>(ends);
  });
}

}  // namespace rotorquant
#endif
