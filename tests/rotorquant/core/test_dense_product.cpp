#include <gtest/gtest.h>

#include <algorithm>

#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/transpose.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

// Shapes around tiles of 4 rows and 64 columns and of 6 rows and 16 columns, and their rests.
TEST(DenseProduct, SumsInTheStatedOrderForEveryShape) {
  for (const std::int64_t rows : {1, 3, 4, 5, 6, 9, 13}) {
    for (const std::int64_t depth : {1, 2, 63, 130}) {
      for (const std::int64_t cols : {1, 7, 8, 17, 24, 63, 64, 65, 129}) {
        const Matrix x = normal_matrix(rows, depth, 1);
        const Matrix a = normal_matrix(depth, cols, 2);
        Matrix y(rows, cols);
        dense_product(x.view(), a.view(), y.view());
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t c = 0; c < cols; ++c) {
            float sum = 0.0F;
            for (std::int64_t k = 0; k < depth; ++k) sum += x.row(r)[k] * a.row(k)[c];
            ASSERT_EQ(y.row(r)[c], sum) << rows << " " << depth << " " << cols;
          }
        }
      }
    }
  }
}

TEST(DotProduct, EqualsTheSumWhateverTheLength) {
  for (std::int64_t count = 0; count <= 40; ++count) {
    const Matrix x = normal_matrix(2, std::max<std::int64_t>(count, 1), 3);
    const double expected = inner_product(x.row(0), x.row(1), count);
    EXPECT_NEAR(dot_product(x.row(0), x.row(1), count), expected, 1e-13) << count;
    EXPECT_NEAR(squared_norm(x.row(0), count), inner_product(x.row(0), x.row(0), count), 1e-13) << count;
  }
}

TEST(Transpose, SwapsRowsAndColumns) {
  const Matrix x = normal_matrix(3, 5, 4);
  const std::vector<float> t = transpose(x.view());
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t c = 0; c < 5; ++c) EXPECT_EQ(t[static_cast<std::size_t>(c * 3 + r)], x.row(r)[c]);
  }
}

}  // namespace
}  // namespace rotorquant::test
