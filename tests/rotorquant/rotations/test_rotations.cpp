// Properties that every rotation of the registry has, and what is particular to each.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "rotorquant/core/error.hpp"
#include "rotorquant/rotations/dense.hpp"
#include "rotorquant/rotations/givens.hpp"
#include "rotorquant/rotations/hadamard.hpp"
#include "rotorquant/rotations/quaternion.hpp"
#include "rotorquant/rotations/registry.hpp"
#include "rotorquant/rotations/rotor.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

// Entries are float32 numbers of at most 1, sums have up to a few hundred of them, several layers deep.
constexpr double orthogonality_tolerance = 5e-6;

const std::vector<std::int64_t> all_dims = {1,  2,  3,  4,  5,  6,  7,   8,   9,   31,  32,  33,
                                            63, 64, 65, 66, 80, 96, 127, 128, 129, 130, 256, 257};

// Every setting that changes a rotation.
std::vector<RotationSettings> all_settings(const std::string& name) {
  std::vector<RotationSettings> list;
  for (const Tail tail : {Tail::plane, Tail::pad}) {
    RotationSettings settings;
    settings.tail = tail;
    list.push_back(settings);
    if (name == "quaternion") {
      settings.quaternion_mode = QuaternionMode::fast;
      list.push_back(settings);
    } else if (name == "rotor") {
      settings.rotor_sampling = RotorSampling::haar;
      list.push_back(settings);
    } else if (name != "givens") {
      return list;  // has no tail
    }
  }
  return list;
}

Matrix apply(const Rotation& rotation, const Matrix& x) {
  Matrix y(x.rows, rotation.output_dim());
  rotation.apply(x.view(), y.view());
  return y;
}

Matrix apply_transpose(const Rotation& rotation, const Matrix& y) {
  Matrix x(y.rows, rotation.input_dim());
  rotation.apply_transpose(y.view(), x.view());
  return x;
}

class EveryRotation : public ::testing::TestWithParam<std::string> {
 protected:
  template <typename Body>
  void for_each(const std::vector<std::int64_t>& dims, const Body& body) {
    for (const std::int64_t dim : dims) {
      for (const RotationSettings& settings : all_settings(GetParam())) {
        SCOPED_TRACE("dim " + std::to_string(dim) + (settings.tail == Tail::pad ? ", padded" : ""));
        body(*make_rotation(GetParam(), dim, 5, settings));
      }
    }
  }
};

TEST_P(EveryRotation, HasOrthonormalColumns) {
  for_each(all_dims, [](const Rotation& rotation) {
    const std::int64_t dim = rotation.input_dim();
    Matrix basis(dim, dim);
    for (std::int64_t i = 0; i < dim; ++i) basis.row(i)[i] = 1.0F;
    const Matrix columns = apply(rotation, basis);
    const Matrix back = apply_transpose(rotation, columns);
    double worst = 0.0;
    for (std::int64_t i = 0; i < dim; ++i) {
      for (std::int64_t j = 0; j < dim; ++j) {
        const double expected = i == j ? 1.0 : 0.0;
        const double gram = inner_product(columns.row(i), columns.row(j), columns.cols);
        worst = std::max({worst, std::abs(gram - expected), std::abs(back.row(i)[j] - expected)});
      }
    }
    EXPECT_LE(worst, orthogonality_tolerance);
  });
}

TEST_P(EveryRotation, PreservesNormsAndIsUndoneByItsTranspose) {
  for_each(all_dims, [](const Rotation& rotation) {
    const Matrix x = normal_matrix(5, rotation.input_dim(), 6);
    const Matrix y = apply(rotation, x);
    const Matrix back = apply_transpose(rotation, y);
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const double length = norm(x.row(r), x.cols);
      EXPECT_NEAR(norm(y.row(r), y.cols), length, orthogonality_tolerance * length);
      EXPECT_LE(distance(back.row(r), x.row(r), x.cols), orthogonality_tolerance * length);
    }
  });
}

// A step or matrix of a program, applied to one vector in float64.
std::vector<double> run_program(const RotationProgram& program, const float* x) {
  std::vector<double> y(static_cast<std::size_t>(program.output_dim), 0.0);
  std::copy_n(x, program.input_dim, y.begin());
  if (program.kind == RotationProgram::Kind::dense) {
    std::vector<double> product(y.size(), 0.0);
    for (std::size_t i = 0; i < y.size(); ++i) {
      for (std::size_t j = 0; j < y.size(); ++j)
        product[i] += static_cast<double>(program.numbers[i * y.size() + j]) * y[j];
    }
    return product;
  }
  for (const RotationStep& step : program.steps) {
    double turned[4] = {};
    for (std::size_t i = 0; i < 4; ++i) {
      for (std::size_t j = 0; j < 4; ++j) {
        if (step.index[i] < 0 || step.index[j] < 0) continue;
        turned[i] += static_cast<double>(step.matrix[4 * i + j]) * y[static_cast<std::size_t>(step.index[j])];
      }
    }
    for (std::size_t i = 0; i < 4; ++i) {
      if (step.index[i] >= 0) y[static_cast<std::size_t>(step.index[i])] = turned[i];
    }
  }
  return y;
}

TEST_P(EveryRotation, IsItsProgram) {
  for_each(all_dims, [](const Rotation& rotation) {
    const RotationProgram program = rotation.program();
    ASSERT_EQ(program.input_dim, rotation.input_dim());
    ASSERT_EQ(program.output_dim, rotation.output_dim());
    if (program.kind == RotationProgram::Kind::hadamard) {
      ASSERT_EQ(static_cast<std::int64_t>(program.numbers.size()), program.input_dim);
      return;  // the transform itself is a function of its own, tested below
    }
    const Matrix x = normal_matrix(1, rotation.input_dim(), 8);
    const Matrix y = apply(rotation, x);
    const std::vector<double> expected = run_program(program, x.row(0));
    for (std::int64_t c = 0; c < y.cols; ++c) {
      EXPECT_NEAR(y.row(0)[c], expected[static_cast<std::size_t>(c)],
                  orthogonality_tolerance * norm(x.row(0), x.cols));
    }
  });
}

TEST_P(EveryRotation, GivesTheSameBitsForAnyBatch) {
  for_each({3, 64, 67}, [](const Rotation& rotation) {
    const Matrix x = normal_matrix(9, rotation.input_dim(), 6);
    const Matrix y = apply(rotation, x);
    for (std::int64_t r = 0; r < x.rows; ++r) {
      Matrix row(1, x.cols);
      std::copy_n(x.row(r), x.cols, row.row(0));
      const Matrix alone = apply(rotation, row);
      for (std::int64_t c = 0; c < y.cols; ++c) ASSERT_EQ(alone.row(0)[c], y.row(r)[c]);
    }
  });
}

TEST_P(EveryRotation, DependsOnItsSeedAlone) {
  if (GetParam() == "identity") GTEST_SKIP() << "has no seed";
  const Matrix x = normal_matrix(1, 64, 7);
  const Matrix first = apply(*make_rotation(GetParam(), 64, 1), x);
  EXPECT_EQ(first.values, apply(*make_rotation(GetParam(), 64, 1), x).values);
  EXPECT_NE(first.values, apply(*make_rotation(GetParam(), 64, 2), x).values);
}

std::vector<std::string> rotation_names() {
  std::vector<std::string> names;
  for (const RotationInfo& info : rotation_registry()) names.push_back(info.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Registry, EveryRotation, ::testing::ValuesIn(rotation_names()),
                         [](const auto& rotation) { return rotation.param; });

TEST(RotorRotation, TailKeepsOrPadsTheLastCoordinates) {
  for (const std::int64_t dim : {64, 65}) {  // one and two left over
    EXPECT_EQ(make_rotation("rotor", dim, 1, {.tail = Tail::plane})->output_dim(), dim);
    EXPECT_EQ(make_rotation("rotor", dim, 1, {.tail = Tail::pad})->output_dim(), 66);
  }
  const Matrix x = normal_matrix(1, 64, 1);
  EXPECT_EQ(apply(*make_rotation("rotor", 64, 1), x).row(0)[63], x.row(0)[63]);
}

TEST(RotorRotation, TurnsByTheSandwich) {
  const Rotor rotor = random_rotor(1, 0, RotorSampling::haar);
  const Matrix x = normal_matrix(1, 3, 1);
  const Matrix y = apply(rotor_rotation(3, Tail::plane, {rotor}), x);
  const float* v = x.row(0);
  const Multivector expected = sandwich(rotor.multivector(), {{0, v[0], v[1], v[2], 0, 0, 0, 0}});
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(y.values[i], expected[1 + i], orthogonality_tolerance);
}

TEST(RotorRotation, CountsItsFreeParameters) {
  EXPECT_EQ(make_rotation("rotor", 66, 1)->stored_floats(), 66);
  EXPECT_EQ(make_rotation("rotor", 65, 1)->stored_floats(), 64);  // 21 rotors and one angle
  EXPECT_EQ(make_rotation("rotor", 64, 1)->stored_floats(), 63);
  EXPECT_EQ(make_rotation("identity", 64, 1)->stored_floats(), 0);
  EXPECT_EQ(make_rotation("givens", 64, 1)->stored_floats(), 32);
  EXPECT_EQ(make_rotation("quaternion", 64, 1)->stored_floats(), 96);
  EXPECT_EQ(make_rotation("quaternion", 64, 1, {.quaternion_mode = QuaternionMode::fast})->stored_floats(),
            48);
  EXPECT_EQ(make_rotation("hadamard", 64, 1)->stored_floats(), 64);
  EXPECT_EQ(make_rotation("haar", 64, 1)->stored_floats(), 4096);
}

TEST(GivensRotation, TurnsPairsCounterclockwise) {
  const BlockRotation<2> rotation = givens_rotation(2, Tail::plane, {{0.6F, 0.8F}});
  Matrix x(1, 2);
  x.values = {1.0F, 2.0F};
  const Matrix y = apply(rotation, x);
  EXPECT_FLOAT_EQ(y.values[0], 0.6F * 1.0F - 0.8F * 2.0F);
  EXPECT_FLOAT_EQ(y.values[1], 0.8F * 1.0F + 0.6F * 2.0F);
}

TEST(QuaternionRotation, MultipliesByQuaternions) {
  const double s = std::sqrt(0.5);
  Matrix x(1, 4);
  x.values = {1.0F, 2.0F, 3.0F, 4.0F};  // 1 + 2i + 3j + 4k
  // i (1 + 2i + 3j + 4k) = -2 + i - 4j + 3k
  const Matrix fast = apply(quaternion_rotation(4, Tail::plane, {{0, 1, 0, 0}}, std::nullopt), x);
  EXPECT_EQ(fast.values, (std::vector<float>{-2.0F, 1.0F, -4.0F, 3.0F}));
  // q v conj(q) with q = (1 + k)/sqrt 2 turns i to j by a quarter and keeps 1 and k.
  const Matrix full =
      apply(quaternion_rotation(4, Tail::plane, {{s, 0, 0, s}}, std::vector<Quaternion>{{s, 0, 0, s}}), x);
  const std::vector<float> expected = {1.0F, -3.0F, 2.0F, 4.0F};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(full.values[i], expected[i], 1e-6);
}

TEST(HadamardRotation, CutsTheCoordinatesIntoPowersOfTwo) {
  // 80 = 64 + 16: the last 16 outputs depend on the last 16 inputs alone.
  const HadamardRotation rotation = HadamardRotation::random(80, 1);
  Matrix x(1, 80);
  x.row(0)[70] = 1.0F;
  const Matrix y = apply(rotation, x);
  for (std::int64_t c = 0; c < 64; ++c) EXPECT_EQ(y.row(0)[c], 0.0F);
  for (std::int64_t c = 64; c < 80; ++c) EXPECT_EQ(std::abs(y.row(0)[c]), 0.25F);
}

TEST(HadamardRotation, TransformIsTheSylvesterMatrix) {
  for (std::int64_t i = 0; i < 8; ++i) {
    float data[8] = {};
    data[i] = 1.0F;
    hadamard_transform(data, 8);
    for (std::int64_t j = 0; j < 8; ++j) {
      const bool odd = std::popcount(static_cast<unsigned>(i & j)) % 2 == 1;
      EXPECT_FLOAT_EQ(data[j], (odd ? -1.0F : 1.0F) / std::sqrt(8.0F));
    }
  }
}

// The trace of a Haar matrix has mean 0 and variance 1 (a QR without the sign rule is biased to negative
// ones).
TEST(DenseRotation, HaarMatricesHaveTheTraceOfTheirLaw) {
  constexpr int seeds = 2000;
  double mean = 0.0, square = 0.0;
  for (int seed = 0; seed < seeds; ++seed) {
    const DenseRotation rotation = DenseRotation::haar(6, static_cast<std::uint64_t>(seed));
    double trace = 0.0;
    for (std::int64_t i = 0; i < 6; ++i) {
      Matrix basis(1, 6);
      basis.row(0)[i] = 1.0F;
      trace += apply(rotation, basis).row(0)[i];
    }
    mean += trace / seeds;
    square += trace * trace / seeds;
  }
  const double standard_error = 1.0 / std::sqrt(static_cast<double>(seeds));
  EXPECT_NEAR(mean, 0.0, 5 * standard_error);
  EXPECT_NEAR(square, 1.0, 5 * std::sqrt(2.0) * standard_error);
}

TEST(Rotations, RefuseParametersOfTheWrongShape) {
  EXPECT_THROW(rotor_rotation(6, Tail::plane, {Rotor{}}), Error);
  EXPECT_THROW(rotor_rotation(5, Tail::plane, {Rotor{}, Rotor{0.0, 0.0, 1.0, 0.0}}), Error);
  EXPECT_NO_THROW(rotor_rotation(5, Tail::plane, {Rotor{}, Rotor{0.0, 1.0, 0.0, 0.0}}));
  EXPECT_THROW(givens_rotation(5, Tail::pad, {{}, {}}), Error);
  EXPECT_THROW(quaternion_rotation(4, Tail::plane, {Quaternion{1, 0, 0, 0}}, std::vector<Quaternion>{}),
               Error);
  EXPECT_THROW(DenseRotation(3, std::vector<float>(8)), Error);
  EXPECT_THROW(HadamardRotation(3, std::vector<float>(2)), Error);
  EXPECT_THROW(make_rotation("haar", 0, 1), Error);
}

TEST(Rotations, NameTheNearestKnownOne) {
  try {
    make_rotation("hadamrd", 8, 1);
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_EQ(std::string(error.what()), "unknown rotation 'hadamrd'; did you mean 'hadamard'?");
  }
}

}  // namespace
}  // namespace rotorquant::test
