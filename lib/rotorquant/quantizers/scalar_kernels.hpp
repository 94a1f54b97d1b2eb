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
  // x [rows, dim] -> out, scales[row] * x in float32, then rounded to the type of `out`.
  void (*scale)(const float* x, const float* scales, const HostTensor& out);
};

const ScalarKernels& scalar_kernels(Isa isa);

extern const ScalarKernels scalar_kernels_serial;
extern const ScalarKernels scalar_kernels_avx512;

}  // namespace rotorquant
