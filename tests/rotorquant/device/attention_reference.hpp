#pragma once
// Attention in float64 over keys and values as they are, and rows that make it hard, for tests of attention
// on a GPU.
#include <algorithm>
#include <cmath>
#include <vector>

#include "rotorquant/device/device_arrays.hpp"
#include "rotorquant/device/packed_attention.hpp"

namespace rotorquant::test {

// Of the output. Scores err by up to 1e-4 of the norms' product, which is dozens here, and so do the
// logarithms of weights; outputs are shorter than the values they average.
inline constexpr double tolerance = 1e-2;

inline std::vector<double> attention(const float* query, const Matrix& keys, const Matrix& values,
                                     std::int64_t first, std::int64_t tokens, double scale) {
  std::vector<double> weights;
  double largest = -INFINITY, sum = 0.0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    weights.push_back(scale * inner_product(query, keys.row(first + t), keys.cols));
    largest = std::max(largest, weights.back());
  }
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  std::vector<double> output(static_cast<std::size_t>(values.cols), 0.0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t c = 0; c < values.cols; ++c) {
      output[static_cast<std::size_t>(c)] +=
          weights[static_cast<std::size_t>(t)] / sum * static_cast<double>(values.row(first + t)[c]);
    }
  }
  return output;
}

inline void expect_near(const Matrix& outputs, const Matrix& queries, const Matrix& keys,
                        const Matrix& values, const AttentionSize& size) {
  for (std::int64_t row = 0; row < queries.rows; ++row) {
    const std::int64_t head = row / size.queries_per_head;
    const std::vector<double> expected = attention(queries.row(row), keys, values, head * size.capacity,
                                                   size.tokens, static_cast<double>(size.scale));
    double error = 0.0, energy = 0.0;
    for (std::int64_t c = 0; c < values.cols; ++c) {
      const double wanted = expected[static_cast<std::size_t>(c)];
      error += std::pow(static_cast<double>(outputs.row(row)[c]) - wanted, 2);
      energy += wanted * wanted;
    }
    ASSERT_LE(std::sqrt(error), tolerance * std::sqrt(energy)) << "query " << row;
  }
}

// Keys along the queries, so that some tokens dominate; values of norms far apart.
inline Matrix sharp_keys(std::int64_t rows, std::int64_t dim) {
  Matrix keys = normal_matrix(rows, dim, 21);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < dim; ++c) keys.row(r)[c] *= 1.0F + 2.0F * static_cast<float>(r % 97 == 5);
  }
  return keys;
}
inline Matrix uneven_values(std::int64_t rows, std::int64_t dim) {
  Matrix values = normal_matrix(rows, dim, 22);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto scale = static_cast<float>(std::exp2(static_cast<double>(r % 13) - 6.0));
    for (std::int64_t c = 0; c < dim; ++c) values.row(r)[c] *= scale;
  }
  return values;
}

}  // namespace rotorquant::test
