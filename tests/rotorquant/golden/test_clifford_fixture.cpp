// Cl(3,0) against products from an independent implementation, blade by blade.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "rotorquant/clifford/multivector.hpp"
#include "rotorquant/clifford/rotor.hpp"
#include "rotorquant/golden/golden_files.hpp"
#include "support/hdf5_file.hpp"

namespace rotorquant::test {
namespace {

// Both sides round in float64; entries are of order 1, sums have at most 64 terms.
constexpr double tolerance = 1e-12;

Multivector multivector(const double* blades) {
  Multivector m;
  std::copy_n(blades, num_blades, m.blades.begin());
  return m;
}

void expect_equal(const Multivector& ours, const double* expected) {
  for (std::size_t i = 0; i < num_blades; ++i) EXPECT_NEAR(ours[i], expected[i], tolerance) << "blade " << i;
}

void check_basis_products(const Hdf5File& file) {
  const auto sign = file.read<double>("/basis_product/sign");
  const auto blade = file.read<double>("/basis_product/blade");
  for (std::size_t a = 0; a < num_blades; ++a) {
    for (std::size_t b = 0; b < num_blades; ++b) {
      EXPECT_EQ(basis_product_sign(a, b), sign.values[num_blades * a + b]) << a << " * " << b;
      EXPECT_EQ(static_cast<double>(basis_product_blade(a, b)), blade.values[num_blades * a + b])
          << a << " * " << b;
    }
  }
}

void check_products(const Hdf5File& file) {
  const auto a = file.read<double>("/product/a");
  const auto b = file.read<double>("/product/b");
  const auto ab = file.read<double>("/product/ab");
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    SCOPED_TRACE("product " + std::to_string(r));
    expect_equal(multivector(a.row(r)) * multivector(b.row(r)), ab.row(r));
  }
}

void check_reverses(const Hdf5File& file) {
  const auto a = file.read<double>("/reverse/a");
  const auto value = file.read<double>("/reverse/value");
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    SCOPED_TRACE("reverse " + std::to_string(r));
    expect_equal(reverse(multivector(a.row(r))), value.row(r));
  }
}

void check_norms(const Hdf5File& file) {
  const auto a = file.read<double>("/norm_sq/a");
  const auto value = file.read<double>("/norm_sq/value");
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    EXPECT_NEAR(norm_squared(multivector(a.row(r))), value.row(r)[0], tolerance) << "norm " << r;
  }
}

void check_sandwiches(const Hdf5File& file) {
  const auto bivector = file.read<double>("/sandwich/bivector");
  const auto angle = file.read<double>("/sandwich/angle");
  const auto expected_rotor = file.read<double>("/sandwich/rotor");
  const auto x = file.read<double>("/sandwich/x");
  const auto y = file.read<double>("/sandwich/y");
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    SCOPED_TRACE("sandwich " + std::to_string(r));
    const double* b = bivector.row(r);
    const Rotor rotor = rotor_from_bivector({b[0], b[1], b[2]}, angle.row(r)[0]);
    expect_equal(rotor.multivector(), expected_rotor.row(r));
    const double* v = x.row(r);
    const Multivector turned = sandwich(rotor.multivector(), {{0.0, v[0], v[1], v[2], 0.0, 0.0, 0.0, 0.0}});
    const double* t = y.row(r);
    const double expected[num_blades] = {0.0, t[0], t[1], t[2], 0.0, 0.0, 0.0, 0.0};
    expect_equal(turned, expected);
    const Matrix3 matrix = rotation_matrix(rotor);
    for (std::size_t i = 0; i < 3; ++i) {
      const double product = matrix[3 * i] * v[0] + matrix[3 * i + 1] * v[1] + matrix[3 * i + 2] * v[2];
      EXPECT_NEAR(product, t[i], tolerance) << "coordinate " << i << " by the matrix";
    }
  }
}

TEST(Golden, CliffordProductsEqualAnIndependentImplementation) {
  const std::vector<std::pair<std::string, void (*)(const Hdf5File&)>> checks = {
      {"basis_product", check_basis_products},
      {"product", check_products},
      {"reverse", check_reverses},
      {"norm_sq", check_norms},
      {"sandwich", check_sandwiches},
  };
  for_each_golden_file(Layout::clifford, [&](const Hdf5File& file) {
    for (const std::string& name : file.children("/")) {
      const auto check =
          std::find_if(checks.begin(), checks.end(), [&](const auto& c) { return c.first == name; });
      if (check == checks.end()) {
        std::cout << "note: " << file.path() << ": group '" << name << "' has no check\n";
      } else {
        check->second(file);
      }
    }
  });
}

}  // namespace
}  // namespace rotorquant::test
