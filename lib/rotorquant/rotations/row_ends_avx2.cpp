// Rows into the buffer of kernels that turn them.
#if defined(__x86_64__)
#include "rotorquant/rotations/row_ends_avx2.hpp"

#include <type_traits>

namespace rotorquant::avx2 {
namespace {

// Coordinates of a row from c on, and of its copy.
template <bool twice>
ROTORQUANT_AVX2_INLINE void put(float* row, std::int64_t copy, std::int64_t c, __m256 values) {
  _mm256_store_ps(row + c, values);
  if constexpr (twice) _mm256_store_ps(row + copy + c, values);
}

// body(std::bool_constant<whether rows are kept twice>{}).
template <typename Body>
void with_twice(const RowBuffer& buffer, const Body& body) {
  if (buffer.copy() != 0) return body(std::true_type{});
  body(std::false_type{});
}

// x(r) times a factor.
template <ElementType type, bool twice>
ROTORQUANT_AVX2_INLINE void fill_row(const ConstHostTensor& x, std::int64_t r, float scale,
                                     const RowBuffer& buffer) {
  const std::uint8_t* from = x.row(r);
  float* to = buffer.row(r);
  const std::int64_t copy = buffer.copy();
  const __m256 factor = _mm256_set1_ps(scale);
  std::int64_t c = 0;
  for (; c + lanes <= x.cols; c += lanes) put<twice>(to, copy, c, _mm256_mul_ps(load<type>(from, c), factor));
  if (c < x.cols) put<twice>(to, copy, c, _mm256_mul_ps(load<type>(from, c, x.cols - c), factor));
}

template <ElementType type, bool twice>
ROTORQUANT_AVX2 void fill_scaled(const ConstHostTensor& x, const float* factors, std::int64_t first,
                                 const RowBuffer& buffer) {
  for (std::int64_t r = first; r < std::min(first + filled_rows, x.rows); ++r)
    fill_row<type, twice>(x, r, factors == nullptr ? 1.0F : factors[r], buffer);
}

template <ElementType type>
ROTORQUANT_AVX2 void measure(const ConstHostTensor& x, std::int64_t first, float* norms, float* factors) {
  if (first >= x.rows) return;
  const __m128 found =
      measure_rows<type>(x, first, norms, [](int, std::int64_t, __m256) ROTORQUANT_AVX2_LAMBDA {});
  _mm_storeu_ps(factors + first % (2 * filled_rows), found);
}

// Asks for the rows that come some time after these.
template <ElementType type, bool twice>
ROTORQUANT_AVX2 void fill_units(const ConstHostTensor& x, float* norms, float* factors, std::int64_t first,
                                const RowBuffer& buffer) {
  if (first == 0) measure<type>(x, 0, norms, factors);
  measure<type>(x, first + filled_rows, norms, factors);
  constexpr std::int64_t line = 64;
  for (std::int64_t r = first; r < std::min(first + filled_rows, x.rows); ++r) {
    const auto* next = reinterpret_cast<const char*>(x.row(r + usual_rows_at_once));
    for (std::int64_t i = 0; i < x.cols * element_bytes(type); i += line) _mm_prefetch(next + i, _MM_HINT_T0);
    fill_row<type, twice>(x, r, factors[r % (2 * filled_rows)], buffer);
  }
}

// Four bytes of each plane in every lane of a register, masked by the lane's bit, are the indices of
// coordinates 8 k + lane in bytes k; minus these indices, for that is what comparisons give.
template <int bits>
ROTORQUANT_AVX2_INLINE __m256i minus_indices(const int (&words)[bits]) {
  const __m256i lane_bits = _mm256_setr_epi32(0x01010101, 0x02020202, 0x04040404, 0x08080808, 0x10101010,
                                              0x20202020, 0x40404040, static_cast<int>(0x80808080U));
  __m256i sum = _mm256_setzero_si256();
  for (int j = bits - 1; j >= 0; --j) {
    const __m256i own = _mm256_and_si256(_mm256_set1_epi32(words[j]), lane_bits);
    const __m256i mask = _mm256_cmpeq_epi8(own, lane_bits);
    sum = j == bits - 1 ? mask : _mm256_add_epi8(_mm256_add_epi8(sum, sum), mask);
  }
  return sum;
}

// The last `count` <= 4 of a plane's bytes, zeros above; without a loop where the plane has four.
inline int last_bytes(const std::uint8_t* plane, std::int64_t size, std::int64_t count) {
  constexpr std::int64_t together = sizeof(std::uint32_t);
  std::uint32_t word = 0;
  if (size >= together) {
    std::memcpy(&word, plane + size - together, sizeof word);
    word >>= 8 * (together - count);
  } else {
    std::memcpy(&word, plane, static_cast<std::size_t>(count));
  }
  return static_cast<int>(word);
}

template <int bits, bool twice>
ROTORQUANT_AVX2 void fill_centroids(const std::uint8_t* planes, const float* table, std::int64_t first,
                                    std::int64_t last, std::int64_t cols, const RowBuffer& buffer) {
  const __m256 low = _mm256_load_ps(table), high = _mm256_load_ps(table + lanes);
  // By the lowest `bits` bits of the lanes.
  const auto look_up = [&](__m256i index) ROTORQUANT_AVX2_LAMBDA {
    if constexpr (bits == 2) return _mm256_permutevar_ps(low, index);
    if constexpr (bits == 3) return _mm256_permutevar8x32_ps(low, index);
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index),
                            _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
  };
  const std::int64_t stride = plane_bytes(cols);
  for (std::int64_t r = first; r < last; ++r) {
    const std::uint8_t* row = planes + r * bits * stride;
    const auto put_eight = [&](std::int64_t c, __m256i index) ROTORQUANT_AVX2_LAMBDA {
      put<twice>(buffer.row(r), buffer.copy(), c, look_up(index));
    };
    int words[bits];
    std::int64_t c = 0;
    for (; c + 4 * lanes <= cols; c += 4 * lanes) {
      for (int j = 0; j < bits; ++j) std::memcpy(&words[j], row + j * stride + c / 8, sizeof words[j]);
      const __m256i four = minus_indices<bits>(words);
      put_eight(c, four);
      put_eight(c + lanes, _mm256_srli_epi32(four, 8));
      put_eight(c + 2 * lanes, _mm256_srli_epi32(four, 16));
      put_eight(c + 3 * lanes, _mm256_srli_epi32(four, 24));
    }
    if (c == cols) continue;
    const std::int64_t bytes = stride - c / 8;
    for (int j = 0; j < bits; ++j) words[j] = last_bytes(row + j * stride, stride, bytes);
    for (__m256i left = minus_indices<bits>(words); c < cols; c += lanes, left = _mm256_srli_epi32(left, 8))
      put_eight(c, left);
  }
}

}  // namespace

void ScaledRows::fill(std::int64_t first, const RowBuffer& buffer) {
  with_twice(buffer, [&](auto twice) {
    dispatch_type(x_.type,
                  [&]<ElementType type>() { fill_scaled<type, twice()>(x_, factors_, first, buffer); });
  });
}

void UnitRows::fill(std::int64_t first, const RowBuffer& buffer) {
  with_twice(buffer, [&](auto twice) {
    dispatch_type(
        x_.type, [&]<ElementType type>() { fill_units<type, twice()>(x_, norms_, factors_, first, buffer); });
  });
}

PlaneRows::PlaneRows(const std::uint8_t* planes, const PlaneCodebook& codebook, std::int64_t rows,
                     std::int64_t cols)
    : RowSource(rows, cols), planes_(planes), bits_(codebook.bits), table_() {
  const std::size_t size = std::size_t{1} << bits_;
  for (std::size_t i = 0; i < table_.size(); ++i) table_[i] = codebook.centroids[-i % size];
}

void PlaneRows::fill(std::int64_t first, const RowBuffer& buffer) {
  const std::int64_t last = std::min(first + filled_rows, rows());
  const float* table = table_.data();
  with_twice(buffer, [&](auto twice) {
    if (bits_ == 2) return fill_centroids<2, twice()>(planes_, table, first, last, cols(), buffer);
    if (bits_ == 3) return fill_centroids<3, twice()>(planes_, table, first, last, cols(), buffer);
    fill_centroids<4, twice()>(planes_, table, first, last, cols(), buffer);
  });
}

}  // namespace rotorquant::avx2
#endif
