// The search for the best grid vector against trying all of them.
#include <gtest/gtest.h>

#include "rotorquant/quantizers/rabitq.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

double cosine(const float* y, const std::vector<std::uint8_t>& levels, int bits) {
  const double middle = ((1 << bits) - 1) / 2.0;
  double along = 0.0, squares = 0.0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const double level = static_cast<double>(levels[i]) - middle;
    along += static_cast<double>(y[i]) * level;
    squares += level * level;
  }
  return along / std::sqrt(squares);
}

TEST(NearestGridDirection, IsTheBestOfAll) {
  const std::pair<std::int64_t, int> cases[] = {{1, 8}, {2, 6}, {3, 4}, {4, 3}, {6, 2}, {12, 1}};
  for (const auto& [dim, bits] : cases) {
    const Matrix y = normal_matrix(20, dim, static_cast<std::uint64_t>(bits));
    for (std::int64_t r = 0; r < y.rows; ++r) {
      std::vector<std::uint8_t> found(static_cast<std::size_t>(dim)), tried(found.size());
      nearest_grid_direction(y.row(r), dim, bits, found.data());
      double best = -1.0;
      for (std::int64_t code = 0; code < (std::int64_t{1} << (bits * dim)); ++code) {
        for (std::int64_t i = 0; i < dim; ++i)
          tried[static_cast<std::size_t>(i)] =
              static_cast<std::uint8_t>((code >> (bits * i)) & ((1 << bits) - 1));
        best = std::max(best, cosine(y.row(r), tried, bits));
      }
      EXPECT_NEAR(cosine(y.row(r), found, bits), best, 1e-12) << dim << " coordinates, " << bits << " bits";
    }
  }
}

// The mean of <q, x^> over rotations is <q, x>.
TEST(Rabitq, EstimatesInnerProductsWithoutBias) {
  constexpr std::int64_t dim = 32;
  constexpr int rotations = 400;
  const Matrix x = unit_vectors(1, dim, 3);
  for (const int bits : {1, 2}) {
    const Matrix q = unit_vectors(1, dim, 4);
    double total = 0.0, spread = 0.0;
    const double truth = inner_product(q.row(0), x.row(0), dim);
    for (int seed = 0; seed < rotations; ++seed) {
      const auto quantizer = build("rabitq:norm=fp32", bits, dim, static_cast<std::uint64_t>(seed));
      const Matrix decoded = decode(*quantizer, encode(*quantizer, x));
      // The inner product of x with itself is exact, whatever the rotation.
      EXPECT_NEAR(inner_product(x.row(0), decoded.row(0), dim), 1.0, 1e-5);
      const double error = inner_product(q.row(0), decoded.row(0), dim) - truth;
      total += error;
      spread += error * error;
    }
    const double standard_error = std::sqrt(spread) / rotations;
    EXPECT_LT(std::abs(total / rotations), 4.0 * standard_error);
  }
}

}  // namespace
}  // namespace rotorquant::test
