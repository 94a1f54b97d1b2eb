#include "rotorquant/quantizers/calibrated_parameters.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant {
namespace {

using Block = std::array<double, 9>;

// Rows `triple` of matrix [dim, dim] <- block times these rows.
void multiply_rows(const std::array<std::int32_t, 3>& triple, const Block& block, std::size_t dim,
                   std::vector<double>& matrix) {
  double* rows[3];
  for (std::size_t r = 0; r < 3; ++r) rows[r] = matrix.data() + static_cast<std::size_t>(triple[r]) * dim;
  for (std::size_t c = 0; c < dim; ++c) {
    const double x[3] = {rows[0][c], rows[1][c], rows[2][c]};
    for (std::size_t r = 0; r < 3; ++r) {
      rows[r][c] = block[3 * r] * x[0] + block[3 * r + 1] * x[1] + block[3 * r + 2] * x[2];
    }
  }
}

[[noreturn]] void refuse(const std::string& field, const std::string& reason) {
  throw Error("calibrated parameters: " + field + " " + reason);
}

void require_size(const std::string& field, std::size_t actual, std::int64_t expected) {
  if (static_cast<std::int64_t>(actual) != expected) {
    refuse(field, "has " + std::to_string(actual) + " values; valid: " + std::to_string(expected));
  }
}

void require_finite(const std::string& field, std::span<const float> values, bool positive) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]) || (positive && values[i] <= 0.0F)) {
      refuse(field, "has " + std::to_string(values[i]) + " at element " + std::to_string(i) +
                        "; valid: " + (positive ? "positive" : "finite") + " values");
    }
  }
}

// Calibration pairs a measured variance with this many tokens' worth of the calibrated one: with 124 measured
// tokens the sequence decides two thirds.
constexpr double prior_tokens = 50.0;
constexpr double variance_steps_per_octave = 4.0;
constexpr double max_variance_steps = 127.0;

// 2^(eighths / 8) with the same bits everywhere, which exp2 of a mathematics library does not promise:
// encoder and decoder derive widths from it.
double exp2_eighths(int eighths) {
  constexpr double roots[8] = {1.0,
                               1.0905077326652577,
                               1.189207115002721,
                               1.2968395546510096,
                               1.4142135623730951,
                               1.5422108254079407,
                               1.681792830507429,
                               1.8340080864093424};
  const int octave = eighths >> 3;
  return std::ldexp(roots[eighths & 7], octave);
}

// Index of the centroid nearest to x.
std::size_t nearest_centroid(const CalibratedParameters& parameters, const float* x) {
  const auto dim = static_cast<std::size_t>(parameters.dim);
  std::size_t nearest = 0;
  double smallest = 0.0;
  for (std::size_t c = 0; c * dim < parameters.centroids.size(); ++c) {
    double distance = 0.0;
    for (std::size_t i = 0; i < dim; ++i) {
      const double difference =
          static_cast<double>(x[i]) - static_cast<double>(parameters.centroids[c * dim + i]);
      distance += difference * difference;
    }
    if (c == 0 || distance < smallest) {
      smallest = distance;
      nearest = c;
    }
  }
  return nearest;
}

}  // namespace

std::array<double, 9> inverse_of(const std::array<float, 9>& block) {
  Block m;
  std::copy(block.begin(), block.end(), m.begin());
  const Block adjugate = {m[4] * m[8] - m[5] * m[7], m[2] * m[7] - m[1] * m[8], m[1] * m[5] - m[2] * m[4],
                          m[5] * m[6] - m[3] * m[8], m[0] * m[8] - m[2] * m[6], m[2] * m[3] - m[0] * m[5],
                          m[3] * m[7] - m[4] * m[6], m[1] * m[6] - m[0] * m[7], m[0] * m[4] - m[1] * m[3]};
  const double determinant = m[0] * adjugate[0] + m[1] * adjugate[3] + m[2] * adjugate[6];
  Block inverse;
  for (std::size_t i = 0; i < 9; ++i) inverse[i] = adjugate[i] / determinant;
  return inverse;
}

std::vector<double> BlockCascade::matrix() const {
  const std::size_t n = delta.size();
  std::vector<double> result(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) result[i * n + i] = static_cast<double>(delta[i]);
  for (const TripleLayer& layer : layers) {
    for (std::size_t g = 0; g < layer.triples.size(); ++g) {
      Block block;
      std::copy(layer.blocks[g].begin(), layer.blocks[g].end(), block.begin());
      multiply_rows(layer.triples[g], block, n, result);
    }
  }
  return result;
}

std::vector<double> BlockCascade::inverse() const {
  const std::size_t n = delta.size();
  std::vector<double> result(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) result[i * n + i] = 1.0;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    for (std::size_t g = 0; g < layer->triples.size(); ++g) {
      multiply_rows(layer->triples[g], inverse_of(layer->blocks[g]), n, result);
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t c = 0; c < n; ++c) result[i * n + c] /= static_cast<double>(delta[i]);
  }
  return result;
}

std::int64_t BlockCascade::stored_floats() const {
  std::int64_t blocks = 0;
  for (const TripleLayer& layer : layers) blocks += static_cast<std::int64_t>(layer.triples.size());
  // General blocks absorb delta, which then is 1 everywhere.
  return kind == BlockKind::rotor ? dim() + 4 * blocks : 9 * blocks;
}

std::int64_t CalibratedParameters::decoder_floats() const {
  return static_cast<std::int64_t>(centroids.size() + deviations.size() + weights.size()) +
         transform.stored_floats();
}

void CalibratedParameters::validate() const {
  if (dim < 1) refuse("head_dim", "is " + std::to_string(dim) + "; valid: 1 or more");
  if (bits < 1 || bits > max_width) refuse("bits", "is " + std::to_string(bits) + "; valid: 1..8");
  if (scale.bits < 1 || scale.bits > 12)
    refuse("scale bits", "is " + std::to_string(scale.bits) + "; valid: 1..12");
  if (scale.steps_per_octave < 1) {
    refuse("scale steps per octave", "is " + std::to_string(scale.steps_per_octave) + "; valid: 1 or more");
  }
  if (centroid_bits < 0 || centroid_bits > 8) {
    refuse("centroid bits", "is " + std::to_string(centroid_bits) + "; valid: 0..8");
  }
  const std::int64_t most_centroids = std::int64_t{1} << centroid_bits;
  if (centroids.empty() || static_cast<std::int64_t>(centroids.size()) % dim != 0 ||
      num_centroids() > most_centroids) {
    refuse("centroids", "has " + std::to_string(centroids.size()) + " values; valid: 1 to " +
                            std::to_string(most_centroids) + " rows of " + std::to_string(dim));
  }
  require_size("delta", transform.delta.size(), dim);
  require_size("deviations", deviations.size(), dim);
  require_size("weights", weights.size(), dim);
  require_size("query_metric", query_metric.size(), dim * dim);
  require_finite("centroids", centroids, false);
  require_finite("delta", transform.delta, true);
  require_finite("deviations", deviations, true);
  require_finite("weights", weights, true);
  require_finite("query_metric", query_metric, false);
  for (std::size_t l = 0; l < transform.layers.size(); ++l) {
    const TripleLayer& layer = transform.layers[l];
    const std::string name = "layer " + std::to_string(l);
    if (layer.blocks.size() != layer.triples.size())
      refuse(name, "has unequal numbers of triples and blocks");
    std::vector<char> used(static_cast<std::size_t>(dim), 0);
    for (std::size_t g = 0; g < layer.triples.size(); ++g) {
      for (const std::int32_t coordinate : layer.triples[g]) {
        if (coordinate < 0 || coordinate >= dim || used[static_cast<std::size_t>(coordinate)] != 0) {
          refuse(name, "names coordinate " + std::to_string(coordinate) + " in triple " + std::to_string(g) +
                           "; valid: distinct coordinates 0.." + std::to_string(dim - 1));
        }
        used[static_cast<std::size_t>(coordinate)] = 1;
      }
      require_finite(name + " block " + std::to_string(g), layer.blocks[g], false);
      for (const double value : inverse_of(layer.blocks[g])) {
        if (!std::isfinite(value)) refuse(name, "has a singular block at triple " + std::to_string(g));
      }
    }
  }
}

std::int64_t SequenceAdaptation::bits() const {
  return static_cast<std::int64_t>(16 * shift.size() + 8 * scale_steps.size());
}

SequenceAdaptation observe_sequence(const CalibratedParameters& parameters, HostView<const float> keys,
                                    AdaptationOptions options) {
  const auto dim = static_cast<std::size_t>(parameters.dim);
  const std::int64_t count = std::min(keys.rows, adaptation_last_token - adaptation_first_token);
  std::vector<double> residuals(static_cast<std::size_t>(count) * dim);
  std::vector<double> mean(dim, 0.0);
  for (std::int64_t t = 0; t < count; ++t) {
    const float* x = keys.row(t);
    const float* centroid = parameters.centroids.data() + nearest_centroid(parameters, x) * dim;
    double* residual = residuals.data() + static_cast<std::size_t>(t) * dim;
    for (std::size_t i = 0; i < dim; ++i) {
      residual[i] = static_cast<double>(x[i]) - static_cast<double>(centroid[i]);
      mean[i] += residual[i] / static_cast<double>(count);
    }
  }

  SequenceAdaptation adaptation;
  if (options.shift) {
    adaptation.shift.resize(dim);
    for (std::size_t i = 0; i < dim; ++i) {
      if (!(std::abs(mean[i]) < static_cast<double>(half_max))) {
        throw Error("calibrated keys: the mean of the sequence's first keys is " + std::to_string(mean[i]) +
                    " in coordinate " + std::to_string(i) + "; valid: finite, below " +
                    std::to_string(static_cast<int>(half_max)));
      }
      adaptation.shift[i] = float_to_half(static_cast<float>(mean[i]));
      mean[i] = static_cast<double>(half_to_float(adaptation.shift[i]));
    }
  } else {
    std::fill(mean.begin(), mean.end(), 0.0);
  }
  if (!options.scales) return adaptation;

  const std::vector<double> transform = parameters.transform.matrix();
  std::vector<double> variance(dim, 0.0);
  std::vector<double> centred(dim);
  for (std::int64_t t = 0; t < count; ++t) {
    const double* residual = residuals.data() + static_cast<std::size_t>(t) * dim;
    double energy = 0.0;
    for (std::size_t i = 0; i < dim; ++i) {
      centred[i] = residual[i] - mean[i];
      energy += centred[i] * centred[i];
    }
    if (energy == 0.0) continue;
    for (std::size_t i = 0; i < dim; ++i) {
      double y = 0.0;
      for (std::size_t c = 0; c < dim; ++c) y += transform[i * dim + c] * centred[c];
      variance[i] += y * y / (energy / static_cast<double>(dim));
    }
  }
  adaptation.scale_steps.resize(dim);
  for (std::size_t i = 0; i < dim; ++i) {
    const double deviation = static_cast<double>(parameters.deviations[i]);
    const double ratio =
        (variance[i] / (deviation * deviation) + prior_tokens) / (static_cast<double>(count) + prior_tokens);
    const double steps = std::round(variance_steps_per_octave * std::log2(ratio));
    adaptation.scale_steps[i] =
        static_cast<std::int8_t>(std::clamp(steps, -max_variance_steps, max_variance_steps));
  }
  return adaptation;
}

std::vector<double> sequence_deviations(const CalibratedParameters& parameters,
                                        const SequenceAdaptation& adaptation) {
  std::vector<double> deviations(parameters.deviations.begin(), parameters.deviations.end());
  for (std::size_t i = 0; i < adaptation.scale_steps.size(); ++i) {
    deviations[i] *=
        exp2_eighths(adaptation.scale_steps[i]);  // half a variance step is an eighth of an octave
  }
  return deviations;
}

std::vector<std::uint8_t> sequence_widths(const CalibratedParameters& parameters,
                                          const SequenceAdaptation& adaptation,
                                          const WidthDistortions& distortions) {
  std::vector<double> energy = sequence_deviations(parameters, adaptation);
  for (std::size_t i = 0; i < energy.size(); ++i)
    energy[i] *= energy[i] * static_cast<double>(parameters.weights[i]);
  return allocate_widths(energy, parameters.index_bits(), distortions);
}

}  // namespace rotorquant
