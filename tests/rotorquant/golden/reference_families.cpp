#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "rotorquant/cache/kv_cache.hpp"
#include "rotorquant/clifford/reference_table.hpp"
#include "rotorquant/golden/reference_checks.hpp"
#include "rotorquant/quantizers/trivector_codec.hpp"
#include "rotorquant/rotations/dense.hpp"
#include "rotorquant/rotations/givens.hpp"
#include "rotorquant/rotations/quaternion.hpp"
#include "rotorquant/rotations/rotor.hpp"

namespace rotorquant::test {
namespace {

std::vector<Rotor> rotors_of(const Run& run, const std::string& name) {
  const Matrix blades = run.matrix(name);  // [groups, 8]
  std::vector<Rotor> rotors;
  for (std::int64_t g = 0; g < blades.rows; ++g) {
    const float* b = blades.row(g);
    rotors.push_back({b[0], b[4], b[5], b[6]});
  }
  return rotors;
}

std::shared_ptr<const ScalarCodec> rotor_codec(const Run& run, const std::string& rotors,
                                               const std::string& centroids) {
  return std::make_shared<ScalarCodec>(
      std::make_shared<BlockRotation<3>>(rotor_rotation(run.dim, Tail::pad, rotors_of(run, rotors))),
      run.codebook(centroids), NormType::reference);
}

// The reference quantizes unit vectors here and stores no norm.
std::shared_ptr<const ScalarCodec> turbo_codec(const Run& run) {
  return std::make_shared<ScalarCodec>(std::make_shared<DenseRotation>(run.dim, run.vector("rotation")),
                                       run.codebook("centroids"), NormType::reference, ScaleRule::none);
}

std::vector<std::uint8_t> coordinate_indices(const ScalarCodec& codec, const CodeBuffer& codes) {
  return indices_of(codes, 0, codec.rotation().output_dim(), codec.codebook().bits());
}

void compare_norms(const Run& run, const CodeBuffer& codes) {
  const std::vector<float> expected = run.vector("norms");
  for (std::int64_t r = 0; r < codes.size(); ++r) {
    const double stored = load_norm(NormType::reference, codes.view().arrays[1] + 4 * r);
    const double norm = expected[static_cast<std::size_t>(r)];
    EXPECT_NEAR(stored, norm, reconstruction_tolerance * norm + absolute_tolerance) << "norm of vector " << r;
  }
}

// Everything a plain quantizer's run holds. x: what it is given; reconstruction: the dataset's name.
void check_plain(const Run& run, const ScalarCodec& codec, const Input& input,
                 const std::string& reconstruction) {
  const CodeBuffer codes = encode(codec, input.x);
  const Matrix coordinates = rotated_coordinates(codec, input.units);
  if (run.has("rotated_unit")) {
    const Matrix expected = run.matrix("rotated_unit");
    for (std::size_t i = 0; i < expected.values.size(); ++i) {
      EXPECT_NEAR(coordinates.values[i], expected.values[i], coordinate_tolerance)
          << "rotated coordinate " << i;
    }
  }
  const std::vector<bool> agree =
      run.has("indices") ? compare_indices(run, coordinates, codec.codebook(),
                                           coordinate_indices(codec, codes), run.integers("indices"))
                         : certain_rows(run, coordinates, codec.codebook());
  run.tally.vectors += input.x.rows;
  run.tally.undecided_vectors += std::count(agree.begin(), agree.end(), false);
  if (run.has("norms")) compare_norms(run, codes);
  if (run.has(reconstruction)) {
    compare_vectors("reconstruction", input.scales, decode(codec, codes), run.matrix(reconstruction), agree);
  }
}

// Everything a two-stage quantizer's run holds.
void check_prod(const Run& run, std::shared_ptr<const ScalarCodec> stage1, const Input& input) {
  const Matrix sketch = run.matrix("S");
  const ProdCodec codec(stage1, QjlSketch(run.dim, sketch.rows, sketch.values));
  const Matrix& x = input.x;
  const CodeBuffer codes = encode(codec, x);
  const Matrix coordinates = rotated_coordinates(*stage1, input.units);
  const std::vector<bool> agree =
      run.has("indices") ? compare_indices(run, coordinates, stage1->codebook(),
                                           coordinate_indices(*stage1, codes), run.integers("indices"))
                         : certain_rows(run, coordinates, stage1->codebook());
  run.tally.vectors += x.rows;
  run.tally.undecided_vectors += std::count(agree.begin(), agree.end(), false);
  if (run.has("norms")) compare_norms(run, codes);
  if (run.has("x_mse"))
    compare_vectors("stage 1", input.scales, decode(*stage1, codes), run.matrix("x_mse"), agree);

  const Residuals residuals = residuals_of(*stage1, sketch, x, codes);
  const std::size_t sign_array = codec.layout().arrays.size() - 2;
  const std::vector<std::uint8_t> negative = indices_of(codes, sign_array, sketch.rows, 1);
  const std::optional<std::vector<std::int32_t>> expected_signs =
      run.has("qjl_signs") ? std::optional(run.integers("qjl_signs")) : std::nullopt;
  const std::optional<std::vector<float>> expected_norms =
      run.has("residual_norm") ? std::optional(run.vector("residual_norm")) : std::nullopt;
  const std::optional<std::vector<float>> expected_products =
      run.has("inner_product") ? std::optional(run.vector("inner_product")) : std::nullopt;
  const Matrix y = run.matrix("y");
  Matrix scores(y.rows, x.rows);
  codec.score({}, y.view(), codes.view(), scores.view());

  for (std::int64_t r = 0; r < x.rows; ++r) {
    const auto row = static_cast<std::size_t>(r);
    if (!agree[row]) continue;
    SCOPED_TRACE("vector " + std::to_string(r));
    const double scale = input.scales[row];
    if (expected_norms) {
      const double stored = load_norm(NormType::reference, codes.view().arrays[sign_array + 1] + 4 * r);
      EXPECT_NEAR(stored, (*expected_norms)[row], reconstruction_tolerance * scale + absolute_tolerance)
          << "residual norm";
    }
    bool signs_agree = true;
    for (std::int64_t i = 0; i < sketch.rows; ++i) {
      const auto at = static_cast<std::size_t>(r * sketch.rows + i);
      const bool undecided = sign_is_undecided(residuals, run.dim, sketch.rows, r, i);
      ++run.tally.signs;
      run.tally.undecided_signs += undecided;
      if (!expected_signs) {
        signs_agree = signs_agree && !undecided;
      } else if ((*expected_signs)[at] != (negative[at] != 0 ? -1 : 1)) {
        signs_agree = false;
        EXPECT_TRUE(undecided) << "sign " << i << " of projection " << residuals.projections[at];
      }
    }
    run.tally.undecided_estimates += !signs_agree;
    if (expected_products && signs_agree) {
      const double y_norm = std::max(norm(y.row(r), y.cols), smallest_norm);
      EXPECT_NEAR(scores.row(r)[r], (*expected_products)[row],
                  inner_product_tolerance * scale * y_norm + absolute_tolerance)
          << "inner product";
    }
  }
}

}  // namespace

void check_rotor_plain(const Run& run) {
  check_plain(run, *rotor_codec(run, "rotors", "centroids"), vectors_as_given(run.matrix("x")), "x_hat");
}

void check_turbo_plain(const Run& run) {
  constexpr double boundary_tolerance = 2.4e-7;  // two roundings of a float32 below 2
  const auto codec = turbo_codec(run);
  if (run.has("boundaries")) {
    const std::vector<float> boundaries = run.vector("boundaries");
    ASSERT_EQ(boundaries.size(), codec->codebook().boundaries.size());
    for (std::size_t i = 0; i < boundaries.size(); ++i) {
      EXPECT_NEAR(codec->codebook().boundaries[i], boundaries[i], boundary_tolerance) << "boundary " << i;
    }
  }
  check_plain(run, *codec, vectors_as_units(run.matrix("x")), "x_hat_unit");
}

void check_rotor_prod(const Run& run) {
  check_prod(run, rotor_codec(run, "rotors", "centroids"), vectors_as_given(run.matrix("x")));
}

void check_turbo_prod(const Run& run) {
  check_prod(run, turbo_codec(run), vectors_as_units(run.matrix("x")));
}

void check_quaternion(const Run& run) {
  const auto quaternions = [&](const std::string& name) {
    const Matrix rows = run.matrix(name);  // [groups, 4], w x y z
    std::vector<Quaternion> out;
    for (std::int64_t g = 0; g < rows.rows; ++g) {
      const float* q = rows.row(g);
      out.push_back({q[0], q[1], q[2], q[3]});
    }
    return out;
  };
  const std::optional<std::vector<Quaternion>> right =
      run.has("q_R") ? std::optional(quaternions("q_R")) : std::nullopt;
  const ScalarCodec codec(
      std::make_shared<BlockRotation<4>>(quaternion_rotation(run.dim, Tail::pad, quaternions("q_L"), right)),
      run.codebook("centroids"), NormType::reference);
  check_plain(run, codec, vectors_as_given(run.matrix("x")), "x_hat");
}

void check_planar(const Run& run) {
  const Matrix pairs = run.matrix("rot2");  // [pairs, 2], cosine and sine
  std::vector<PlaneRotation> planes;
  for (std::int64_t p = 0; p < pairs.rows; ++p) planes.push_back({pairs.row(p)[0], pairs.row(p)[1]});
  const ScalarCodec codec(std::make_shared<BlockRotation<2>>(givens_rotation(run.dim, Tail::pad, planes)),
                          run.codebook("centroids"), NormType::reference);
  check_plain(run, codec, vectors_as_given(run.matrix("x")), "x_hat");
}

void check_trivector(const Run& run) {
  constexpr double trivector_variance = 2.0;  // times 1/d
  const Codebook vectors = run.codebook("centroids_vector");
  const Codebook trivectors = run.codebook("centroids_trivector", trivector_variance);
  EXPECT_EQ(trivectors.bits(), std::max(vectors.bits() - 1, 1)) << "width of a trivector";
  const std::vector<Rotor> rotors = rotors_of(run, "rotors");
  const TrivectorCodec codec(run.dim, rotors, vectors, trivectors);
  const Input input = vectors_as_given(run.matrix("x"));
  const Matrix& x = input.x;
  const CodeBuffer codes = encode(codec, x);
  const std::size_t trivector_array = codec.layout().arrays.size() - 1;

  const Matrix coordinates = rotated_coordinates(codec.vector_codec(), input.units);
  Matrix t(x.rows, codec.groups());
  codec.trivectors(x.view(), t.view());
  if (run.has("rotated_multivectors")) {
    const auto expected = run.file.read<float>(run.path + "/rotated_multivectors");  // [n, groups, 8]
    ASSERT_EQ(expected.cols(), 8 * codec.groups());
    for (std::int64_t r = 0; r < x.rows; ++r) {
      for (std::int64_t g = 0; g < codec.groups(); ++g) {
        const float* blades = expected.row(r) + 8 * g;
        for (std::int64_t i = 0; i < 3; ++i) {
          EXPECT_NEAR(coordinates.row(r)[3 * g + i], blades[1 + i], coordinate_tolerance);
        }
        EXPECT_NEAR(t.row(r)[g], blades[7], coordinate_tolerance) << "trivector";
        // The product by the table itself, all blades.
        Multivector u;
        for (std::int64_t i = 0; i < std::min<std::int64_t>(3, run.dim - 3 * g); ++i) {
          u[static_cast<std::size_t>(1 + i)] = input.units.row(r)[3 * g + i];
        }
        const Multivector rotor = rotors[static_cast<std::size_t>(g)].multivector();
        const Multivector turned = reference_product(reference_product(rotor, u), reverse(rotor));
        for (std::size_t i = 0; i < num_blades; ++i) EXPECT_NEAR(turned[i], blades[i], coordinate_tolerance);
      }
    }
  }
  compare_indices(run, t, trivectors, indices_of(codes, trivector_array, codec.groups(), trivectors.bits()),
                  run.integers("indices_trivector"));
  const std::vector<bool> agree =
      compare_indices(run, coordinates, vectors, coordinate_indices(codec.vector_codec(), codes),
                      run.integers("indices_vector"));
  run.tally.vectors += x.rows;
  run.tally.undecided_vectors += std::count(agree.begin(), agree.end(), false);
  if (run.has("norms")) compare_norms(run, codes);
  if (run.has("x_hat"))
    compare_vectors("reconstruction", input.scales, decode(codec, codes), run.matrix("x_hat"), agree);
}

void check_kv_cache(const Run& run) {
  const auto stage1 = rotor_codec(run, "key_rotors", "key_centroids");
  const auto value_codec = rotor_codec(run, "value_rotors", "value_centroids");
  const Matrix sketch = run.matrix("S");
  const auto key_codec = std::make_shared<ProdCodec>(stage1, QjlSketch(run.dim, sketch.rows, sketch.values));
  const Input key_input = vectors_as_given(run.matrix("keys"));
  const Input value_input = vectors_as_given(run.matrix("values"));
  const Matrix& keys = key_input.x;
  const Matrix& values = value_input.x;
  const Matrix queries = run.matrix("queries");
  KVCache cache(key_codec, value_codec);
  const std::int64_t first = keys.rows / 3;  // two batches: a cache grows
  cache.append({}, keys.view().row_range(0, first), values.view().row_range(0, first));
  cache.append({}, keys.view().row_range(first, keys.rows - first),
               values.view().row_range(first, values.rows - first));
  ASSERT_EQ(cache.size(), keys.rows);

  const Matrix value_coordinates = rotated_coordinates(*value_codec, value_input.units);
  Matrix decoded(values.rows, values.cols);
  cache.values({}, decoded.view());
  const std::vector<bool> certain_values = certain_rows(run, value_coordinates, value_codec->codebook());
  compare_vectors("value", value_input.scales, decoded, run.matrix("values_hat"), certain_values);

  const Matrix key_coordinates = rotated_coordinates(*stage1, key_input.units);
  const std::vector<bool> certain_keys = certain_rows(run, key_coordinates, stage1->codebook());
  run.tally.vectors += values.rows + keys.rows;
  run.tally.undecided_vectors += std::count(certain_values.begin(), certain_values.end(), false) +
                                 std::count(certain_keys.begin(), certain_keys.end(), false);
  const Residuals residuals = residuals_of(*stage1, sketch, keys, encode(*key_codec, keys));
  const Matrix expected = run.matrix("attention_scores");
  Matrix scores(queries.rows, keys.rows);
  cache.attention_scores({}, queries.view(), scores.view());
  for (std::int64_t t = 0; t < keys.rows; ++t) {
    if (!certain_keys[static_cast<std::size_t>(t)]) continue;
    bool signs_certain = true;
    for (std::int64_t i = 0; i < sketch.rows; ++i) {
      const bool undecided = sign_is_undecided(residuals, run.dim, sketch.rows, t, i);
      ++run.tally.signs;
      run.tally.undecided_signs += undecided;
      signs_certain = signs_certain && !undecided;
    }
    run.tally.undecided_estimates += !signs_certain;
    if (!signs_certain) continue;
    for (std::int64_t q = 0; q < queries.rows; ++q) {
      const double scale = std::max(norm(queries.row(q), run.dim), smallest_norm) *
                           key_input.scales[static_cast<std::size_t>(t)];
      EXPECT_NEAR(scores.row(q)[t], expected.row(q)[t], inner_product_tolerance * scale + absolute_tolerance)
          << "score of query " << q << " and key " << t;
    }
  }
}

}  // namespace rotorquant::test
