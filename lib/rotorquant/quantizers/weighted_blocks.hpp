#pragma once
// Weighted sums of vectors that are decoded block by block, once for all rows of weights.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/parallel.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant {

// Vectors whose sum one thread forms; such sums are added in their order, whatever the number of threads.
inline constexpr std::int64_t vectors_per_sum = 1024;
inline constexpr std::int64_t vectors_per_product = 64;

// sums(i) = Σ_t weights(i, t) scale(t) x(t), weights [m, n], sums [m, dim]. load(begin, count, x, scales)
// gives the vectors from `begin`, at most vectors_per_product of them: x [count, dim], scales [count].
template <typename Load>
void sum_weighted(const Context& context, HostView<const float> weights, HostView<float> sums,
                  const Load& load) {
  const std::int64_t rows = weights.rows, dim = sums.cols;
  const std::int64_t size = rows * dim;
  const std::int64_t parts = (weights.cols + vectors_per_sum - 1) / vectors_per_sum;
  std::vector<float> part_sums(static_cast<std::size_t>(parts * size), 0.0F);
  parallel_chunks(context, weights.cols, vectors_per_sum, [&](std::int64_t begin, std::int64_t end) {
    static thread_local ScratchFloats value_scratch, scale_scratch, factor_scratch, product_scratch;
    float* values = value_scratch.reserve(vectors_per_product * dim);
    float* scales = scale_scratch.reserve(vectors_per_product);
    float* factors = factor_scratch.reserve(rows * vectors_per_product);
    float* products = product_scratch.reserve(size);
    float* part = part_sums.data() + begin / vectors_per_sum * size;
    for (std::int64_t t = begin; t < end; t += vectors_per_product) {
      const std::int64_t count = std::min(vectors_per_product, end - t);
      load(t, count, values, scales);
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < count; ++j) factors[i * count + j] = weights.row(i)[t + j] * scales[j];
      }
      dense_product({factors, rows, count}, {values, count, dim}, {products, rows, dim});
      for (std::int64_t c = 0; c < size; ++c) part[c] += products[c];
    }
  });
  std::fill_n(sums.data, size, 0.0F);
  for (std::int64_t p = 0; p < parts; ++p) {
    for (std::int64_t c = 0; c < size; ++c) sums.data[c] += part_sums[static_cast<std::size_t>(p * size + c)];
  }
}

}  // namespace rotorquant
