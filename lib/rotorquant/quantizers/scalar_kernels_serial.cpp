#include <algorithm>
#include <cmath>
#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
#include "rotorquant/quantizers/scalar_kernels.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant {
namespace {

constexpr std::size_t smallest_table = 16;  // lanes of the widest register

void normalize(const ConstHostTensor& x, bool divide, float* unit, float* norms) {
  for (std::int64_t r = 0; r < x.rows; ++r) {
    float* row = unit + r * x.cols;
    load_elements(x.type, x.row(r), x.cols, row);
    const auto norm = static_cast<float>(std::sqrt(squared_norm(row, x.cols)));
    norms[r] = norm;
    if (!divide) continue;
    const float divisor = std::max(norm, norm_floor);
    for (std::int64_t c = 0; c < x.cols; ++c) row[c] /= divisor;
  }
}

void quantize(const ScalarTables& tables, const float* y, std::int64_t rows, std::int64_t dim,
              std::uint8_t* planes) {
  static thread_local std::vector<std::uint8_t> indices;
  indices.resize(static_cast<std::size_t>(dim));
  const std::int64_t stride = tables.bits * plane_bytes(dim);
  for (std::int64_t r = 0; r < rows; ++r) {
    quantize_coordinates(tables.codebook, y + r * dim, dim, indices.data());
    pack_planes(indices.data(), dim, tables.bits, planes + r * stride);
  }
}

void look_up(const ScalarTables& tables, const std::uint8_t* planes, std::int64_t rows, std::int64_t dim,
             float* y) {
  static thread_local std::vector<std::uint8_t> indices;
  indices.resize(static_cast<std::size_t>(dim));
  const std::int64_t stride = tables.bits * plane_bytes(dim);
  for (std::int64_t r = 0; r < rows; ++r) {
    unpack_planes(planes + r * stride, dim, tables.bits, indices.data());
    for (std::int64_t c = 0; c < dim; ++c)
      y[r * dim + c] = tables.centroids[indices[static_cast<std::size_t>(c)]];
  }
}

void scale(const float* x, const float* scales, const HostTensor& out) {
  static thread_local std::vector<float> scaled;
  scaled.resize(static_cast<std::size_t>(out.cols));
  for (std::int64_t r = 0; r < out.rows; ++r) {
    for (std::int64_t c = 0; c < out.cols; ++c)
      scaled[static_cast<std::size_t>(c)] = x[r * out.cols + c] * scales[r];
    store_elements(out.type, scaled.data(), out.cols, out.row(r));
  }
}

}  // namespace

ScalarTables::ScalarTables(const Codebook& codebook_)
    : codebook(codebook_),
      bits(codebook.bits()),
      tree(std::max(smallest_table, codebook.centroids.size())),
      centroids(codebook.centroids) {
  centroids.resize(tree.size());
  for (std::size_t level = 0; level < static_cast<std::size_t>(bits); ++level) {
    const std::size_t count = std::size_t{1} << level;
    const std::size_t spacing = codebook.centroids.size() / count;
    for (std::size_t i = 0; i < count; ++i)
      tree[count + i] = codebook.boundaries[i * spacing + spacing / 2 - 1];
  }
}

const ScalarKernels scalar_kernels_serial = {normalize, quantize, look_up, scale};

const ScalarKernels& scalar_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return scalar_kernels_avx512;
#endif
  (void)isa;
  return scalar_kernels_serial;
}

}  // namespace rotorquant
