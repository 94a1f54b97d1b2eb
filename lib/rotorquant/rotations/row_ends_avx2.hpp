#pragma once
// Where AVX2 kernels that turn rows take their coordinates from and put them. Kernels are templates over
// these two ends, so that a vector goes from its 16-bit numbers to its code, or back, in one pass. Internal
// to lib/rotorquant/rotations.
//
// A source fills four rows at a time of a small buffer with coordinates in float32, from where kernels load
// them at any place: those next to it as well, which registers could only exchange at a greater cost. The
// rows are filled long before they are loaded, so that no load waits for the stores that it overlaps.
//
// What is the same for all rows of a sink lies in its Constants, which kernels keep in registers.
#include <array>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/tree_search_avx2.hpp"
#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/core/unit_rows_avx2.hpp"
#include "rotorquant/core/view.hpp"
#include "rotorquant/rotations/rotation.hpp"

namespace rotorquant::avx2 {

constexpr std::int64_t whole_registers(std::int64_t count) {
  return (count + lanes - 1) / lanes * lanes;
}

inline constexpr int filled_rows = 4;
static_assert(filled_rows == measured_rows);

// The buffer: the rows being turned and those being filled, with zeros beyond the last register of each.
// Where rows are kept twice, a row begins on a cache line and its copy half a line later: of eight floats
// next to a register's, one of the two has all in one line, and loads from two lines take twice as long.
class RowBuffer {
 public:
  // Rows of which sources fill the first `filled` coordinates and kernels turn `turned`, up to four more.
  ROTORQUANT_AVX2_INLINE RowBuffer(std::int64_t filled, std::int64_t turned, bool twice) {
    constexpr std::int64_t line = 16;  // floats
    const std::int64_t end = whole_registers(filled);
    const std::int64_t length = (std::max(end, whole_registers(turned)) + margin + line - 1) / line * line;
    copy_ = twice ? length + lanes : 0;
    stride_ = twice ? 2 * length + line : length;
    rows_ = reserve(margin + kept * stride_) + margin;
    for (std::int64_t r = 0; r < kept; ++r) {
      for (std::int64_t c = end; c < end + margin; c += lanes) {
        _mm256_store_ps(row(r) + c, _mm256_setzero_ps());
        _mm256_store_ps(row(r) + copy_ + c, _mm256_setzero_ps());
      }
    }
  }
  ROTORQUANT_AVX2_INLINE float* row(std::int64_t r) const { return rows_ + r % kept * stride_; }
  // From a row to its copy, in floats; 0 where rows are kept once.
  std::int64_t copy() const { return copy_; }

 private:
  static constexpr std::int64_t kept = 2 * filled_rows;
  static constexpr std::int64_t margin = 16;  // floats

  static float* reserve(std::int64_t floats) {
    static thread_local ScratchFloats scratch;
    return scratch.reserve(floats);
  }

  float* rows_;
  std::int64_t stride_, copy_;
};

class RowSource {
 public:
  RowSource(std::int64_t rows, std::int64_t cols) : rows_(rows), cols_(cols) {}
  RowSource(const RowSource&) = delete;
  RowSource& operator=(const RowSource&) = delete;
  virtual ~RowSource() = default;

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  // Rows [first, first + filled_rows), first < rows(), or as many of them as there are. Called for all rows
  // in order.
  virtual void fill(std::int64_t first, const RowBuffer& buffer) = 0;

 private:
  std::int64_t rows_, cols_;
};

// body(r) for the rows in order, `together` at a time, each long after it was filled.
template <int together = 1, typename Body>
ROTORQUANT_AVX2_INLINE void for_each_filled(RowSource& source, const RowBuffer& buffer, const Body& body) {
  static_assert(filled_rows % together == 0);
  const std::int64_t rows = source.rows();
  if (rows > 0) source.fill(0, buffer);
  for (std::int64_t r = 0; r < rows; r += together) {
    if (r % filled_rows == 0 && r + filled_rows < rows) source.fill(r + filled_rows, buffer);
    body(r);
  }
}

// Rows of any type, times their factors [x.rows] unless these are null.
class ScaledRows final : public RowSource {
 public:
  explicit ScaledRows(const ConstHostTensor& x, const float* factors)
      : RowSource(x.rows, x.cols), x_(x), factors_(factors) {}
  explicit ScaledRows(HostView<const float> x)
      : ScaledRows({x.data, ElementType::float32, x.rows, x.cols}, nullptr) {}
  void fill(std::int64_t first, const RowBuffer& buffer) override;

 private:
  ConstHostTensor x_;
  const float* factors_;
};

// Rows times their unit factors, whose norms [x.rows] it finds: of four rows ahead of those that it fills, so
// that these do not wait for a root and a division.
class UnitRows final : public RowSource {
 public:
  UnitRows(const ConstHostTensor& x, float* norms)
      : RowSource(x.rows, x.cols), x_(x), norms_(norms), factors_() {}
  void fill(std::int64_t first, const RowBuffer& buffer) override;

 private:
  ConstHostTensor x_;
  float* norms_;
  float factors_[2 * filled_rows];  // of row r at r modulo their number
};

// The centroids of the indices in planes [rows, bits * plane_bytes(cols)]; in the last register, those of
// whatever bits follow, which coefficients of 0 take.
class PlaneRows final : public RowSource {
 public:
  PlaneRows(const std::uint8_t* planes, const PlaneCodebook& codebook, std::int64_t rows, std::int64_t cols);
  void fill(std::int64_t first, const RowBuffer& buffer) override;

 private:
  const std::uint8_t* planes_;
  int bits_;
  alignas(32) std::array<float, 16> table_;  // entry -i modulo 2^bits is centroid i
};

// Rows of sinks take registers by their number, from where the row was last advanced to: two at a time, or
// one of which `count` coordinates are there.
struct PlainSink {
  struct Constants {};
  struct Row {
    float* data;

    ROTORQUANT_AVX2_INLINE void store(Constants, std::int64_t k, __m256 first, __m256 second) const {
      _mm256_storeu_ps(data + k * lanes, first);
      _mm256_storeu_ps(data + (k + 1) * lanes, second);
    }
    ROTORQUANT_AVX2_INLINE void store(Constants, std::int64_t k, __m256 values, std::int64_t count) const {
      avx2::store<ElementType::float32>(values, data, k * lanes, count);
    }
    ROTORQUANT_AVX2_INLINE void advance(std::int64_t registers) { data += registers * lanes; }
  };
  ROTORQUANT_AVX2_INLINE Constants constants() const { return {}; }
  ROTORQUANT_AVX2_INLINE Row row(std::int64_t r) const { return {data + r * cols}; }

  float* data;
  std::int64_t cols;
};

template <ElementType type, bool past_caches>
struct ScaledSink {
  struct Constants {};
  struct Row {
    std::uint8_t* data;
    __m256 factor;

    ROTORQUANT_AVX2_INLINE void store(Constants, std::int64_t k, __m256 first, __m256 second) const {
      const auto put = [&](std::int64_t place, __m256 values) ROTORQUANT_AVX2_LAMBDA {
        const __m256 scaled = _mm256_mul_ps(values, factor);
        if constexpr (past_caches) {
          avx2::stream<type>(scaled, data, place);
        } else {
          avx2::store<type>(scaled, data, place);
        }
      };
      put(k * lanes, first);
      put((k + 1) * lanes, second);
    }
    ROTORQUANT_AVX2_INLINE void store(Constants, std::int64_t k, __m256 values, std::int64_t count) const {
      avx2::store<type>(_mm256_mul_ps(values, factor), data, k * lanes, count);
    }
    ROTORQUANT_AVX2_INLINE void advance(std::int64_t registers) {
      data += registers * lanes * element_bytes(type);
    }
  };
  ROTORQUANT_AVX2_INLINE Constants constants() const { return {}; }
  ROTORQUANT_AVX2_INLINE Row row(std::int64_t r) const {
    return {data + r * cols * element_bytes(type), _mm256_set1_ps(factors[r])};
  }

  std::uint8_t* data;
  const float* factors;  // [rows]
  std::int64_t cols;
};

// Bit planes of the indices.
template <int bits>
struct PlaneSink {
  struct Constants {
    TreeSearch<bits> search;
  };
  struct Row {
    std::uint8_t* planes;
    std::int64_t stride;

    ROTORQUANT_AVX2_INLINE void store(const Constants& constants, std::int64_t k, __m256 first,
                                      __m256 second) const {
      __m256 low[bits], high[bits];
      constants.search(first, low);
      constants.search(second, high);
      for (int j = 0; j < bits; ++j) {
        const int bytes = _mm256_movemask_ps(low[j]) | _mm256_movemask_ps(high[j]) << 8;
        std::memcpy(planes + j * stride + k, &bytes, 2);
      }
    }
    ROTORQUANT_AVX2_INLINE void store(const Constants& constants, std::int64_t k, __m256 values,
                                      std::int64_t count) const {
      __m256 masks[bits];
      constants.search(values, masks);
      for (int j = 0; j < bits; ++j) {
        const auto byte = static_cast<unsigned>(_mm256_movemask_ps(masks[j]));
        planes[j * stride + k] =
            static_cast<std::uint8_t>(count < lanes ? byte & ((1U << count) - 1U) : byte);
      }
    }
    ROTORQUANT_AVX2_INLINE void advance(std::int64_t registers) { planes += registers; }
  };
  ROTORQUANT_AVX2_INLINE Constants constants() const {
    return {TreeSearch<bits>(search_tree<bits>(*codebook).data())};
  }
  ROTORQUANT_AVX2_INLINE Row row(std::int64_t r) const {
    const std::int64_t stride = plane_bytes(cols);
    return {planes + r * bits * stride, stride};
  }

  std::uint8_t* planes;
  const PlaneCodebook* codebook;
  std::int64_t cols;
};

// body(sink) for the rows of `out`, scaled; past the caches where that is asked for and its rows allow it.
template <typename Body>
void with_sink(const HostTensor& out, const float* factors, bool stream, const Body& body) {
  auto* data = static_cast<std::uint8_t*>(out.data);
  dispatch_type(out.type, [&]<ElementType type>() {
    if (stream && streams_whole(out)) return body(ScaledSink<type, true>{data, factors, out.cols});
    body(ScaledSink<type, false>{data, factors, out.cols});
  });
}

// body(sink) for the bit planes of the codebook's indices of rows [n, cols].
template <typename Body>
void with_plane_sink(std::uint8_t* planes, const PlaneCodebook& codebook, std::int64_t cols,
                     const Body& body) {
  if (codebook.bits == 2) return body(PlaneSink<2>{planes, &codebook, cols});
  if (codebook.bits == 3) return body(PlaneSink<3>{planes, &codebook, cols});
  body(PlaneSink<4>{planes, &codebook, cols});
}

}  // namespace rotorquant::avx2
