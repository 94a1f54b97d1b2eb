#include <gtest/gtest.h>

#include "rotorquant/clifford/multivector.hpp"
#include "rotorquant/clifford/reference_table.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant {
namespace {

constexpr double rounding = 1e-12;  // sums of at most 512 products of numbers of order 1, in float64

Multivector random_multivector(RandomStream& stream) {
  Multivector m;
  for (double& blade : m.blades) blade = stream.normal();
  return m;
}

Multivector blade(std::size_t i) {
  Multivector m;
  m[i] = 1.0;
  return m;
}

void expect_near(const Multivector& a, const Multivector& b) {
  for (std::size_t i = 0; i < num_blades; ++i) EXPECT_NEAR(a[i], b[i], rounding) << "blade " << i;
}

TEST(Multivector, VectorsSquareToOneAndAnticommute) {
  for (std::size_t i = 1; i <= 3; ++i) {
    expect_near(blade(i) * blade(i), blade(0));
    for (std::size_t j = i + 1; j <= 3; ++j) {
      const Multivector forward = blade(i) * blade(j);
      const Multivector backward = blade(j) * blade(i);
      for (std::size_t k = 0; k < num_blades; ++k) EXPECT_EQ(forward[k], -backward[k]);
    }
  }
  expect_near(blade(1) * blade(2), blade(4));
  expect_near(blade(1) * blade(3), blade(5));
  expect_near(blade(2) * blade(3), blade(6));
  expect_near(blade(1) * blade(2) * blade(3), blade(7));
}

TEST(Multivector, BivectorsAndThePseudoscalarSquareToMinusOne) {
  for (std::size_t i = 4; i < num_blades; ++i) EXPECT_EQ((blade(i) * blade(i))[0], -1.0);
}

TEST(Multivector, ThePseudoscalarCommutesWithAll) {
  for (std::size_t i = 0; i < num_blades; ++i) expect_near(blade(7) * blade(i), blade(i) * blade(7));
}

TEST(Multivector, ProductIsAssociativeAndHasOne) {
  RandomStream stream(1, Purpose::synthetic);
  for (int i = 0; i < 50; ++i) {
    const Multivector a = random_multivector(stream);
    const Multivector b = random_multivector(stream);
    const Multivector c = random_multivector(stream);
    expect_near((a * b) * c, a * (b * c));
    expect_near(blade(0) * a, a);
    expect_near(a * blade(0), a);
  }
}

TEST(Multivector, ReverseTurnsProductsAround) {
  RandomStream stream(2, Purpose::synthetic);
  for (int i = 0; i < 50; ++i) {
    const Multivector a = random_multivector(stream);
    const Multivector b = random_multivector(stream);
    expect_near(reverse(a * b), reverse(b) * reverse(a));
    expect_near(reverse(reverse(a)), a);
  }
}

TEST(Multivector, NormIsTheSumOfSquares) {
  RandomStream stream(3, Purpose::synthetic);
  const Multivector a = random_multivector(stream);
  double sum = 0.0;
  for (const double v : a.blades) sum += v * v;
  EXPECT_NEAR(norm_squared(a), sum, rounding);
}

TEST(ReferenceTable, DiffersFromTheAlgebraInEighteenSigns) {
  int wrong = 0;
  for (std::size_t a = 0; a < num_blades; ++a) {
    for (std::size_t b = 0; b < num_blades; ++b) {
      wrong += reference_product_sign(a, b) != basis_product_sign(a, b);
    }
  }
  EXPECT_EQ(wrong, 18);
}

}  // namespace
}  // namespace rotorquant
