#pragma once
// Comparison with runs of the Python reference, in the layout dN/FAMILY/bB/sSEED. Quantizers are built from
// the parameters in the file (rotors, matrices, centroids), so that any dim, seed and width can be checked.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/quantizers/prod_codec.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
#include "support/hdf5_file.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {

// Rotated coordinates: some twenty float32 roundings of numbers below 1, in another order than the
// reference's.
constexpr double coordinate_tolerance = 2e-6;
// Reconstructions, relative to the vector's norm.
constexpr double reconstruction_tolerance = 1e-5;
// A projection this small, relative to ||r|| sqrt(d), may round to either sign.
constexpr double projection_tolerance = 1e-5;
// Inner products and scores, relative to ||x|| ||y||.
constexpr double inner_product_tolerance = 1e-4;
// Added to every relative tolerance: the reference divides by max(norm, 1e-8), and so vectors shorter than
// that are compared on this scale.
constexpr double absolute_tolerance = 1e-7;
constexpr double smallest_norm = 1e-8;
// Share of coordinates so near a boundary that either index is right.
constexpr double largest_excepted_share = 5e-4;

// What was compared in one family.
struct Tally {
  std::int64_t runs = 0;
  std::int64_t coordinates = 0;
  std::int64_t near_boundary = 0;  // not compared
  std::int64_t zeros = 0;          // on the boundary, compared all the same
  std::int64_t vectors = 0;
  std::int64_t undecided_vectors = 0;  // an index differs, or may: nothing after the indices is compared
  std::int64_t signs = 0;
  std::int64_t undecided_signs = 0;
  std::int64_t undecided_estimates = 0;  // a sign differs, or may: the inner product is not compared
};

// One run in a fixture.
struct Run {
  const Hdf5File& file;
  std::int64_t dim;
  std::string dim_path;    // "/d64"
  std::string path;        // "/d64/rotorquant_mse/b3/s42"
  std::string parameters;  // "/d64/parameters/s42", shared by all widths
  Tally& tally;

  bool has(const std::string& name) const { return file.has(path + "/" + name); }
  // Of the run itself, else of the shared parameters, else of the dimension (x and y).
  std::string locate(const std::string& name) const;
  Matrix matrix(const std::string& name) const;
  std::vector<float> vector(const std::string& name) const;
  std::vector<std::int32_t> integers(const std::string& name) const;
  // Injected centroids, after a check of our own against them. variance: of a coordinate, times dim.
  Codebook codebook(const std::string& name, double variance = 1.0) const;
};

// Vectors as a family is given them.
struct Input {
  Matrix x;                    // [n, dim]
  Matrix units;                // [n, dim], x / max(||x||, 1e-8)
  std::vector<double> scales;  // [n], what relative tolerances of a vector refer to
};
// x itself, on the scale of max(||x||, 1e-8).
Input vectors_as_given(const Matrix& x);
// x / max(||x||, 1e-8), on the scale of 1: without a stored norm every vector, the zero vector too, is
// decoded as one of unit norm.
Input vectors_as_units(const Matrix& x);

// R u [n, output_dim]: the coordinates that the codec quantizes.
Matrix rotated_coordinates(const ScalarCodec& codec, const Matrix& units);

// Compares indices with the reference's and says of each row whether all agree.
std::vector<bool> compare_indices(const Run& run, const Matrix& coordinates, const Codebook& codebook,
                                  const std::vector<std::uint8_t>& indices,
                                  const std::vector<std::int32_t>& expected);
// Where the file has no indices: a row's are certain when no coordinate is near a boundary.
std::vector<bool> certain_rows(const Run& run, const Matrix& coordinates, const Codebook& codebook);

// ||ours - expected|| of every row with agreeing indices, relative to its scale.
void compare_vectors(const std::string& what, const std::vector<double>& scales, const Matrix& ours,
                     const Matrix& expected, const std::vector<bool>& agree);

// Sketches S r of the residuals r of stage 1, [n, m], in float64.
struct Residuals {
  Matrix values;                    // [n, dim]
  std::vector<double> norms;        // [n]
  std::vector<double> projections;  // [n, m]
};
Residuals residuals_of(const ScalarCodec& stage1, const Matrix& sketch, const Matrix& x,
                       const CodeBuffer& codes);
// Whether rounding may choose either sign of projection (row, i).
bool sign_is_undecided(const Residuals& residuals, std::int64_t dim, std::int64_t sketch_dim,
                       std::int64_t row, std::int64_t i);

// The families.
void check_rotor_plain(const Run& run);
void check_turbo_plain(const Run& run);
void check_rotor_prod(const Run& run);
void check_turbo_prod(const Run& run);
void check_quaternion(const Run& run);
void check_planar(const Run& run);
void check_trivector(const Run& run);
void check_kv_cache(const Run& run);

}  // namespace rotorquant::test
