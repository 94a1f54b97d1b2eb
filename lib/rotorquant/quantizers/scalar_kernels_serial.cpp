#include <algorithm>
#include <cmath>
#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
#include "rotorquant/quantizers/scalar_kernels.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant {
namespace {

constexpr std::size_t smallest_table = 16;  // lanes of the widest register

constexpr std::int64_t running_sums = 16;

float dot(const float* query, const float* y, std::int64_t dim) {
  float sums[running_sums] = {};
  std::int64_t c = 0;
  for (; c + running_sums <= dim; c += running_sums) {
    for (std::int64_t lane = 0; lane < running_sums; ++lane) sums[lane] += query[c + lane] * y[c + lane];
  }
  for (; c < dim; ++c) sums[c % running_sums] += query[c] * y[c];
  for (std::int64_t half = running_sums / 2; half > 0; half /= 2) {
    for (std::int64_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}

float exact_norm(const float* x, std::int64_t dim) {
  return static_cast<float>(std::sqrt(squared_norm(x, dim)));
}

// body(row, its numbers in float32).
template <typename Body>
void for_each_row(const ConstHostTensor& x, const Body& body) {
  static thread_local ScratchFloats scratch;
  float* row = scratch.reserve(x.cols);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    load_elements(x.type, x.row(r), x.cols, row);
    body(r, row);
  }
}

void unit_factors(const ConstHostTensor& x, float* norms, float* factors) {
  for_each_row(x, [&](std::int64_t r, const float* row) {
    const float square = dot(row, row, x.cols);
    const bool in_range = square >= least_float_square && square <= most_float_square;
    norms[r] = in_range ? std::sqrt(square) : exact_norm(row, x.cols);
    factors[r] = 1.0F / std::max(norms[r], norm_floor);
  });
}

void exact_norms(const ConstHostTensor& x, float* norms) {
  for_each_row(x, [&](std::int64_t r, const float* row) { norms[r] = exact_norm(row, x.cols); });
}

void half_norms(const ConstHostTensor& x, const float*, std::uint8_t* halves) {
  for_each_row(x, [&](std::int64_t r, const float* row) {
    store_norm(NormType::fp16, exact_norm(row, x.cols), halves + 2 * r);
  });
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

void score(const ScoreQueries& queries, const float* y, const float* scales, std::int64_t rows,
           const ScoreRows& scores) {
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t i = 0; i < queries.count; ++i) {
      scores.data[i * scores.stride + t] =
          scales[t] * dot(queries.values + i * queries.stride, y + t * queries.dim, queries.dim);
    }
  }
}

void score_codes(const ScalarTables& tables, const ScoreQueries& queries, const std::uint8_t* planes,
                 const float* scales, std::int64_t rows, const ScoreRows& scores) {
  static thread_local std::vector<float> y;
  y.resize(static_cast<std::size_t>(queries.dim));
  const std::int64_t stride = tables.bits * plane_bytes(queries.dim);
  for (std::int64_t t = 0; t < rows; ++t) {
    look_up(tables, planes + t * stride, 1, queries.dim, y.data());
    score(queries, y.data(), scales + t, 1, {scores.data + t, scores.stride});
  }
}

void score_integers(const ScalarTables& tables, const IntegerQueries& queries, const std::uint8_t* planes,
                    const float* scales, std::int64_t rows, const ScoreRows& scores) {
  static thread_local std::vector<std::uint8_t> indices;
  static thread_local std::vector<std::int32_t> levels;
  indices.resize(static_cast<std::size_t>(queries.dim));
  levels.resize(static_cast<std::size_t>(queries.dim));
  const std::int64_t stride = tables.bits * plane_bytes(queries.dim);
  for (std::int64_t t = 0; t < rows; ++t) {
    unpack_planes(planes + t * stride, queries.dim, tables.bits, indices.data());
    for (std::size_t c = 0; c < levels.size(); ++c)
      levels[c] = static_cast<std::int32_t>(tables.levels[indices[c]]) - 128;
    for (std::int64_t i = 0; i < queries.count; ++i) {
      const std::int8_t* query = queries.values + i * queries.stride;
      std::int32_t sum = 0;
      for (std::size_t c = 0; c < levels.size(); ++c) sum += static_cast<std::int32_t>(query[c]) * levels[c];
      scores.data[i * scores.stride + t] = scales[t] * (queries.factors[i] * static_cast<float>(sum));
    }
  }
}

std::optional<PlaneCodebook> plane_codebook(const Codebook& codebook) {
  const int bits = codebook.bits();
  if (bits < least_plane_codebook_bits || bits > most_plane_codebook_bits) return std::nullopt;
  PlaneCodebook registers;
  registers.bits = bits;
  std::copy(codebook.centroids.begin(), codebook.centroids.end(), registers.centroids.begin());
  const std::size_t middle = codebook.boundaries.size() / 2;
  if (codebook.boundaries[middle] != 0.0F) return std::nullopt;
  for (std::size_t i = 0; i < middle; ++i) {
    const float boundary = codebook.boundaries[middle + 1 + i];
    if (!(boundary > 0.0F) || codebook.boundaries[middle - 1 - i] != -boundary) return std::nullopt;
    registers.boundaries[i] = boundary;
  }
  return registers;
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
  registers = plane_codebook(codebook);
  if (codebook.centroids.size() > smallest_table) return;
  float largest = 0.0F;
  for (const float centroid : codebook.centroids) largest = std::max(largest, std::abs(centroid));
  level_factor = largest / 127.0F;
  levels.resize(smallest_table);
  for (std::size_t i = 0; i < codebook.centroids.size(); ++i) {
    const float level = level_factor > 0.0F ? codebook.centroids[i] / level_factor : 0.0F;
    levels[i] = static_cast<std::uint8_t>(128 + std::lround(level));
  }
}

const ScalarKernels scalar_kernels_serial = {unit_factors, half_norms, exact_norms, quantize,
                                             look_up,      score,      score_codes, score_integers};

const ScalarKernels& scalar_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return scalar_kernels_avx512;
  if (isa == Isa::avx2) return scalar_kernels_avx2;
#endif
  (void)isa;
  return scalar_kernels_serial;
}

}  // namespace rotorquant
