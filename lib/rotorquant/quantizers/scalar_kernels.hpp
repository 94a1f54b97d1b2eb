#pragma once
// The inner loops of scalar codecs, once per instruction set (scalar_kernels_serial.cpp,
// scalar_kernels_avx2.cpp, scalar_kernels_avx512.cpp). The serial functions define the results; the others
// give the same codes and values bit for bit. Internal to lib/rotorquant/quantizers.
#include <cstdint>
#include <optional>
#include <type_traits>
#include <vector>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/codes/plane_codebook.hpp"
#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/isa.hpp"
#include "rotorquant/core/unit_factors.hpp"

namespace rotorquant {

// Widths whose levels fit a register of bytes; score_integers takes no others.
inline constexpr int most_integer_bits = 4;

// A codebook as the kernels want it. Built once for a codec.
struct ScalarTables {
  explicit ScalarTables(const Codebook& codebook_);

  Codebook codebook;
  int bits;
  // The boundaries as a binary search meets them: tree[1] is the middle one, tree[2 i] and tree[2 i + 1]
  // those of the lower and the upper half; [max(16, 2^bits)], tree[0] unused.
  std::vector<float> tree;
  std::vector<float> centroids;  // [max(16, 2^bits)]
  // Up to most_integer_bits: centroid i is level_factor (levels[i] - 128) but for rounding, levels 1..255;
  // [16].
  std::vector<std::uint8_t> levels;
  float level_factor = 0.0F;
  // The codebook of 2 to 4 bits whose boundaries are symmetric about 0 to the last bit.
  std::optional<PlaneCodebook> registers;
};

// Queries after the rotation, [count, stride] with zeros from dim to stride, a multiple of 64, for
// score_codes and score_integers.
struct ScoreQueries {
  const float* values;
  std::int64_t count;
  std::int64_t dim;
  std::int64_t stride;
};
// The same in 8-bit integers: query i is factors[i] integers(i) but for rounding, the centroids' factor
// included.
struct IntegerQueries {
  const std::int8_t* values;
  const float* factors;      // [count]
  const std::int32_t* sums;  // [count], of the integers
  std::int64_t count;
  std::int64_t dim;
  std::int64_t stride;
};
// scores(i, t) is data[i * stride + t].
struct ScoreRows {
  float* data;
  std::int64_t stride;
};

// A bound on the relative difference of a norm by unit_factors and the exact one: of the sum, a rounding for
// each addition to one of 16 sums, four to fold, one for the squares, halved by the root; the rest for the
// root and this bound's own use.
inline float norm_uncertainty(std::int64_t dim) {
  return static_cast<float>((dim + 15) / 16 + 16) * 0x1p-25F;
}

struct ScalarKernels {
  // x [rows, dim] -> norms [rows], ||x|| in float32, and factors [rows] = 1 / max(norm, norm_floor), rounded:
  // a row times its factor is the unit vector that is coded. Squares are added in float32 in the order of
  // score(); where their sum lies outside [least_float_square, most_float_square], the norm is exact_norms'.
  void (*unit_factors)(const ConstHostTensor& x, float* norms, float* factors);
  // exact_norms() rounded to 16 bits, as store_norm() does; norms as unit_factors() gave them, halves [rows,
  // 2].
  void (*half_norms)(const ConstHostTensor& x, const float* norms, std::uint8_t* halves);
  // norms [rows] = float32(||x||), squares added in float64 in dot_product.hpp's order.
  void (*exact_norms)(const ConstHostTensor& x, float* norms);
  // y [rows, dim] -> planes [rows, bits * plane_bytes(dim)]: bit planes of the number of boundaries strictly
  // below each coordinate.
  void (*quantize)(const ScalarTables& tables, const float* y, std::int64_t rows, std::int64_t dim,
                   std::uint8_t* planes);
  // The centroids of the indices: planes -> y [rows, dim].
  void (*look_up)(const ScalarTables& tables, const std::uint8_t* planes, std::int64_t rows, std::int64_t dim,
                  float* y);
  // scores(i, t) = scales[t] <queries(i), y(t)>. Products are added in float32 in 16 running sums, coordinate
  // c to sum c mod 16; then the upper half of the sums to the lower half until one is left.
  void (*score)(const ScoreQueries& queries, const float* y, const float* scales, std::int64_t rows,
                const ScoreRows& scores);
  // The same of the centroids of the indices.
  void (*score_codes)(const ScalarTables& tables, const ScoreQueries& queries, const std::uint8_t* planes,
                      const float* scales, std::int64_t rows, const ScoreRows& scores);
  // scores(i, t) = scales[t] factor(i) <integers(i), level(t)>, level the 8-bit centroids; exact up to the
  // two last products. For up to 4 bits.
  void (*score_integers)(const ScalarTables& tables, const IntegerQueries& queries,
                         const std::uint8_t* planes, const float* scales, std::int64_t rows,
                         const ScoreRows& scores);
};

const ScalarKernels& scalar_kernels(Isa isa);

extern const ScalarKernels scalar_kernels_serial;
extern const ScalarKernels scalar_kernels_avx2;
extern const ScalarKernels scalar_kernels_avx512;

// Those that have files of their own, scalar_scores_avx2.cpp and scalar_scores_avx512.cpp.
std::remove_pointer_t<decltype(ScalarKernels::score)> score_avx2, score_avx512;
std::remove_pointer_t<decltype(ScalarKernels::score_codes)> score_codes_avx2, score_codes_avx512;
std::remove_pointer_t<decltype(ScalarKernels::score_integers)> score_integers_avx2, score_integers_avx512;

}  // namespace rotorquant
