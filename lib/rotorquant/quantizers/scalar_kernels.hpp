#pragma once
// The inner loops of scalar codecs, once per instruction set (scalar_kernels_serial.cpp,
// scalar_kernels_avx512.cpp). The serial functions define the results; the others give the same codes and
// values bit for bit. Internal to lib/rotorquant/quantizers.
#include <cstdint>
#include <vector>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/isa.hpp"

namespace rotorquant {

// A codebook as the kernels want it. Built once for a codec.
struct ScalarTables {
  explicit ScalarTables(const Codebook& codebook_);

  Codebook codebook;
  int bits;
  // The boundaries as a binary search meets them: tree[1] is the middle one, tree[2 i] and tree[2 i + 1] those of
  // the lower and the upper half; [max(16, 2^bits)], tree[0] unused.
  std::vector<float> tree;
  std::vector<float> centroids;  // [max(16, 2^bits)]
  // Up to 4 bits: centroid i is level_factor (levels[i] - 128) but for rounding, levels 1..255; [16].
  std::vector<std::uint8_t> levels;
  float level_factor = 0.0F;
};

// Queries after the rotation, [count, stride] with zeros from dim to stride, a multiple of 64, for score_codes and score_integers.
struct ScoreQueries {
  const float* values;
  std::int64_t count;
  std::int64_t dim;
  std::int64_t stride;
};
// The same in 8-bit integers: query i is factors[i] integers(i) but for rounding, the centroids' factor included.
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

struct ScalarKernels {
  // x [rows, dim] -> norms [rows] = float32(||x||), and unit [rows, dim] = x / max(norm, norm_floor), or x
  // itself unless `divide`. Rows whose norm is not finite have unspecified unit vectors.
  void (*normalize)(const ConstHostTensor& x, bool divide, float* unit, float* norms);
  // y [rows, dim] -> planes [rows, bits * plane_bytes(dim)]: bit planes of the number of boundaries strictly
  // below each coordinate.
  void (*quantize)(const ScalarTables& tables, const float* y, std::int64_t rows, std::int64_t dim,
                   std::uint8_t* planes);
  // The centroids of the indices: planes -> y [rows, dim].
  void (*look_up)(const ScalarTables& tables, const std::uint8_t* planes, std::int64_t rows, std::int64_t dim,
                  float* y);
  // x [rows, dim] -> out, scales[row] * x in float32, then rounded to the type of `out`. `stream` says that
  // nobody reads `out` soon: it may bypass the caches.
  void (*scale)(const float* x, const float* scales, bool stream, const HostTensor& out);
  // scores(i, t) = scales[t] <queries(i), y(t)>. Products are added in float32 in 16 running sums, coordinate c
  // to sum c mod 16; then the upper half of the sums to the lower half until one is left.
  void (*score)(const ScoreQueries& queries, const float* y, const float* scales, std::int64_t rows,
                const ScoreRows& scores);
  // The same of the centroids of the indices.
  void (*score_codes)(const ScalarTables& tables, const ScoreQueries& queries, const std::uint8_t* planes,
                      const float* scales, std::int64_t rows, const ScoreRows& scores);
  // scores(i, t) = scales[t] factor(i) <integers(i), level(t)>, level the 8-bit centroids; exact up to the two
  // last products. For up to 4 bits.
  void (*score_integers)(const ScalarTables& tables, const IntegerQueries& queries,
                         const std::uint8_t* planes, const float* scales, std::int64_t rows,
                         const ScoreRows& scores);
};

const ScalarKernels& scalar_kernels(Isa isa);

extern const ScalarKernels scalar_kernels_serial;
extern const ScalarKernels scalar_kernels_avx512;

}  // namespace rotorquant
