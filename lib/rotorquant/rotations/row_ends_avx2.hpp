#pragma once
// Where AVX2 kernels that turn rows take their coordinates from and put them. Kernels are templates over
// these two ends, so that a vector goes from its 16-bit numbers to its code, or back, in one pass. Internal to
// lib/rotorquant/rotations.
//
// A source fills four rows at a time of a small buffer with coordinates in float32, from where kernels load
// them at any place: those next to it as well, which registers could only exchange at a greater cost. The rows
// are filled long before they are loaded, so that no load waits for the stores that it overlaps.
//
// What is the same for all rows of a sink lies in its Constants, which kernels keep in registers.
#include <array>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/scalar_search_avx2.hpp"
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

// The buffer: the rows being turned and those being filled, on whole cache lines, with zeros between them.
class RowBuffer {
 public:
  // Rows whose first `filled` coordinates sources fill, and kernels load up to 8 coordinates beyond `loaded`.
  RowBuffer(std::int64_t filled, std::int64_t loaded) {
    static thread_local ScratchFloats scratch;
    const std::int64_t begin = whole_registers(filled);
    stride_ = (std::max(begin, whole_registers(loaded)) + margin + line - 1) / line * line;
    rows_ = scratch.reserve(margin + kept * stride_) + margin;
    for (std::int64_t r = 0; r < kept; ++r) std::fill(row(r) + begin, row(r) + stride_, 0.0F);
  }
  ROTORQUANT_AVX2_INLINE float* row(std::int64_t r) const { return rows_ + r % kept * stride_; }

 private:
  static constexpr std::int64_t kept = 2 * filled_rows;
  static constexpr std::int64_t line = 16;    // floats
  static constexpr std::int64_t margin = 16;  // floats

  float* rows_;
  std::int64_t stride_;
};

class RowSource {
 public:
  RowSource(std::int64_t rows, std::int64_t cols) : rows_(rows), cols_(cols) {}
  RowSource(const RowSource&) = delete;
  RowSource& operator=(const RowSource&) = delete;
  virtual ~RowSource() = default;

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  // Rows [first, first + filled_rows), first < rows(), or as many of them as there are.
  virtual void fill(std::int64_t first, const RowBuffer& buffer) const = 0;

 private:
  std::int64_t rows_, cols_;
};

// body(r) for the rows in order, `together` at a time, each long after it was filled.
template <int together = 1, typename Body>
ROTORQUANT_AVX2_INLINE void for_each_filled(const RowSource& source, const RowBuffer& buffer,
                                            const Body& body) {
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
  void fill(std::int64_t first, const RowBuffer& buffer) const override;

 private:
  ConstHostTensor x_;
  const float* factors_;
};

// Rows times their unit factors, whose norms [x.rows] it finds.
class UnitRows final : public RowSource {
 public:
  UnitRows(const ConstHostTensor& x, float* norms) : RowSource(x.rows, x.cols), x_(x), norms_(norms) {}
  void fill(std::int64_t first, const RowBuffer& buffer) const override;

 private:
  ConstHostTensor x_;
  float* norms_;
};

// The centroids of the indices in planes [rows, bits * plane_bytes(cols)].
class PlaneRows final : public RowSource {
 public:
  PlaneRows(const std::uint8_t* planes, const PlaneCodebook& codebook, std::int64_t rows, std::int64_t cols);
  void fill(std::int64_t first, const RowBuffer& buffer) const override;

 private:
  const std::uint8_t* planes_;
  int bits_;
  alignas(32) std::array<float, 16> table_;  // entry -i modulo 2^bits is centroid i
};

struct PlainSink {
  struct Constants {};
  struct Row {
    float* data;

    ROTORQUANT_AVX2_INLINE void store(Constants, std::int64_t c, __m256 values) const {
      _mm256_storeu_ps(data + c, values);
    }
    ROTORQUANT_AVX2_INLINE void store(Constants, std::int64_t c, __m256 values, std::int64_t count) const {
      avx2::store<ElementType::float32>(values, data, c, count);
    }
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

    ROTORQUANT_AVX2_INLINE void store(Constants, std::int64_t c, __m256 values) const {
      const __m256 scaled = _mm256_mul_ps(values, factor);
      if constexpr (past_caches) {
        avx2::stream<type>(scaled, data, c);
      } else {
        avx2::store<type>(scaled, data, c);
      }
    }
    ROTORQUANT_AVX2_INLINE void store(Constants, std::int64_t c, __m256 values, std::int64_t count) const {
      avx2::store<type>(_mm256_mul_ps(values, factor), data, c, count);
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
    ScalarSearch<bits> search;
  };
  struct Row {
    std::uint8_t* planes;
    std::int64_t stride;

    ROTORQUANT_AVX2_INLINE void store(const Constants& constants, std::int64_t c, __m256 values) const {
      store(constants, c, values, lanes);
    }
    ROTORQUANT_AVX2_INLINE void store(const Constants& constants, std::int64_t c, __m256 values,
                                      std::int64_t count) const {
      __m256 masks[bits];
      constants.search(values, masks);
      for (int j = 0; j < bits; ++j) {
        const auto byte = static_cast<unsigned>(_mm256_movemask_ps(masks[j]));
        planes[j * stride + c / lanes] = static_cast<std::uint8_t>(byte & ((1U << count) - 1U));
      }
    }
  };
  ROTORQUANT_AVX2_INLINE Constants constants() const {
    return {ScalarSearch<bits>(search_tree<bits>(*codebook))};
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
