#include "rotorquant/golden/reference_checks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace rotorquant::test {
namespace {

bool is_near_boundary(const Codebook& codebook, float coordinate) {
  return std::any_of(codebook.boundaries.begin(), codebook.boundaries.end(), [&](float boundary) {
    return std::abs(static_cast<double>(coordinate) - static_cast<double>(boundary)) <= coordinate_tolerance;
  });
}

}  // namespace

std::string Run::locate(const std::string& name) const {
  for (const std::string& folder : {path, parameters, dim_path}) {
    if (file.has(folder + "/" + name)) return folder + "/" + name;
  }
  throw std::runtime_error(path + ": no dataset '" + name + "' here or in " + parameters);
}

Matrix Run::matrix(const std::string& name) const {
  const auto array = file.read<float>(locate(name));
  Matrix out;
  out.rows = array.rows();
  out.cols = array.cols();
  out.values = array.values;
  return out;
}

std::vector<float> Run::vector(const std::string& name) const {
  return file.read<float>(locate(name)).values;
}

std::vector<std::int32_t> Run::integers(const std::string& name) const {
  return file.read<std::int32_t>(locate(name)).values;
}

Codebook Run::codebook(const std::string& name, double variance) const {
  // The reference iterates a fixed number of times, which converges up to 3 bits; at 4 bits it stops early.
  constexpr double converged_tolerance = 1e-6;
  constexpr double early_tolerance = 1e-3;
  const Codebook injected = Codebook::from_centroids(vector(name));
  const std::vector<double> levels = lloyd_max_normal_levels(injected.bits());
  const double deviation = std::sqrt(variance / static_cast<double>(dim));
  if (injected.bits() <= 4) {
    const double tolerance = injected.bits() <= 3 ? converged_tolerance : early_tolerance;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      EXPECT_NEAR(deviation * levels[i], injected.centroids[i], tolerance) << name << " " << i;
    }
  } else {
    // Further from convergence with every bit: no level is comparable, but ours must not be the worse ones.
    std::vector<float> ours;
    for (const double level : levels) ours.push_back(static_cast<float>(deviation * level));
    // The law of a coordinate of a long unit vector, of the same variance, is normal enough.
    EXPECT_LE(expected_distortion(Codebook::from_centroids(ours), dim), expected_distortion(injected, dim));
  }
  return injected;
}

Input vectors_as_given(const Matrix& x) {
  Input input{x, Matrix(x.rows, x.cols), {}};
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const double scale = std::max(norm(x.row(r), x.cols), smallest_norm);
    input.scales.push_back(scale);
    for (std::int64_t c = 0; c < x.cols; ++c) input.units.row(r)[c] = x.row(r)[c] / static_cast<float>(scale);
  }
  return input;
}

Input vectors_as_units(const Matrix& x) {
  const Matrix units = vectors_as_given(x).units;
  return {units, units, std::vector<double>(static_cast<std::size_t>(x.rows), 1.0)};
}

Matrix rotated_coordinates(const ScalarCodec& codec, const Matrix& units) {
  Matrix rotated(units.rows, codec.rotation().output_dim());
  codec.rotation().apply(units.view(), rotated.view());
  return rotated;
}

std::vector<bool> compare_indices(const Run& run, const Matrix& coordinates, const Codebook& codebook,
                                  const std::vector<std::uint8_t>& indices,
                                  const std::vector<std::int32_t>& expected) {
  std::vector<bool> agree(static_cast<std::size_t>(coordinates.rows), true);
  if (indices.size() != expected.size() || indices.size() != coordinates.values.size()) {
    ADD_FAILURE() << run.path << ": " << indices.size() << " indices, " << expected.size() << " expected";
    agree.assign(agree.size(), false);
    return agree;
  }
  run.tally.coordinates += static_cast<std::int64_t>(indices.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const float coordinate = coordinates.values[i];
    const bool zero = coordinate == 0.0F;
    const bool excepted = !zero && is_near_boundary(codebook, coordinate);
    run.tally.zeros += zero;
    run.tally.near_boundary += excepted;
    if (indices[i] == expected[i]) continue;
    agree[i / static_cast<std::size_t>(coordinates.cols)] = false;
    EXPECT_TRUE(excepted) << "index " << int{indices[i]} << ", expected " << expected[i] << ", of coordinate "
                          << coordinate << ", vector " << i / static_cast<std::size_t>(coordinates.cols);
  }
  return agree;
}

std::vector<bool> certain_rows(const Run& run, const Matrix& coordinates, const Codebook& codebook) {
  std::vector<bool> certain(static_cast<std::size_t>(coordinates.rows), true);
  run.tally.coordinates += static_cast<std::int64_t>(coordinates.values.size());
  for (std::size_t i = 0; i < coordinates.values.size(); ++i) {
    const float coordinate = coordinates.values[i];
    run.tally.zeros += coordinate == 0.0F;
    if (coordinate == 0.0F || !is_near_boundary(codebook, coordinate)) continue;
    ++run.tally.near_boundary;
    certain[i / static_cast<std::size_t>(coordinates.cols)] = false;
  }
  return certain;
}

void compare_vectors(const std::string& what, const std::vector<double>& scales, const Matrix& ours,
                     const Matrix& expected, const std::vector<bool>& agree) {
  ASSERT_EQ(ours.rows, expected.rows) << what;
  ASSERT_EQ(ours.cols, expected.cols) << what;
  for (std::int64_t r = 0; r < ours.rows; ++r) {
    if (!agree[static_cast<std::size_t>(r)]) continue;
    const double scale = scales[static_cast<std::size_t>(r)];
    EXPECT_LE(distance(ours.row(r), expected.row(r), ours.cols),
              reconstruction_tolerance * scale + absolute_tolerance)
        << what << " of vector " << r;
  }
}

Residuals residuals_of(const ScalarCodec& stage1, const Matrix& sketch, const Matrix& x,
                       const CodeBuffer& codes) {
  Residuals residuals;
  residuals.values = decode(stage1, codes);
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    residuals.values.values[i] = x.values[i] - residuals.values.values[i];
  }
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const float* residual = residuals.values.row(r);
    residuals.norms.push_back(norm(residual, x.cols));
    for (std::int64_t i = 0; i < sketch.rows; ++i) {
      residuals.projections.push_back(inner_product(sketch.row(i), residual, x.cols));
    }
  }
  return residuals;
}

bool sign_is_undecided(const Residuals& residuals, std::int64_t dim, std::int64_t sketch_dim,
                       std::int64_t row, std::int64_t i) {
  const double projection = residuals.projections[static_cast<std::size_t>(row * sketch_dim + i)];
  return std::abs(projection) <= projection_tolerance * residuals.norms[static_cast<std::size_t>(row)] *
                                     std::sqrt(static_cast<double>(dim));
}

}  // namespace rotorquant::test
