#pragma once
// Parameters of calibrated keys made from random numbers, keys that suit them, and what coding does to these.
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "rotorquant/core/random.hpp"
#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant::testing_support {

// Random disjoint triples of well-conditioned blocks, an energy spread of 2^12 between coordinates, and a
// query metric I + (random rank 4).
inline std::shared_ptr<CalibratedParameters> random_parameters(std::int64_t dim, int bits, BlockKind kind,
                                                               int centroid_bits = 3,
                                                               std::uint64_t seed = 1) {
  RandomStream random(seed, Purpose::synthetic, 17);
  const auto n = static_cast<std::size_t>(dim);
  auto parameters = std::make_shared<CalibratedParameters>();
  parameters->dim = dim;
  parameters->bits = bits;
  parameters->centroid_bits = centroid_bits;
  for (std::int64_t i = 0; i < (dim << centroid_bits); ++i) {
    parameters->centroids.push_back(static_cast<float>(4.0 * random.normal()));
  }
  parameters->transform.kind = kind;
  for (std::size_t i = 0; i < n; ++i) {
    parameters->transform.delta.push_back(
        kind == BlockKind::rotor ? static_cast<float>(std::exp2(random.normal())) : 1.0F);
    parameters->deviations.push_back(
        static_cast<float>(std::exp2(2.0 - 6.0 * static_cast<double>(i) / static_cast<double>(n))));
  }
  for (int l = 0; l < 3; ++l) {
    TripleLayer layer;
    std::vector<std::int32_t> order(n);
    for (std::size_t i = 0; i < n; ++i) order[i] = static_cast<std::int32_t>(i);
    for (std::size_t i = n; i > 1; --i) {
      std::swap(order[i - 1], order[static_cast<std::size_t>(random.integer(static_cast<std::int64_t>(i)))]);
    }
    for (std::size_t g = 0; g + 3 <= n; g += 3) {
      double q[4];
      double norm = 0.0;
      for (double& value : q) {
        value = random.normal();
        norm += value * value;
      }
      norm = std::sqrt(norm);
      for (double& value : q) value /= norm;
      const double w = q[0], x = q[1], y = q[2], z = q[3];
      const double rotation[9] = {1 - 2 * (y * y + z * z), 2 * (x * y - w * z),     2 * (x * z + w * y),
                                  2 * (x * y + w * z),     1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
                                  2 * (x * z - w * y),     2 * (y * z + w * x),     1 - 2 * (x * x + y * y)};
      std::array<float, 9> block;
      for (std::size_t r = 0; r < 3; ++r) {
        const double scale = kind == BlockKind::general ? std::exp2(0.5 * random.normal()) : 1.0;
        for (std::size_t c = 0; c < 3; ++c)
          block[3 * r + c] = static_cast<float>(scale * rotation[3 * r + c]);
      }
      layer.triples.push_back({order[g], order[g + 1], order[g + 2]});
      layer.blocks.push_back(block);
    }
    parameters->transform.layers.push_back(layer);
  }
  std::vector<double> directions(4 * n);
  for (double& value : directions) value = random.normal();
  parameters->query_metric.resize(n * n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      double sum = i == j ? 1.0 : 0.0;
      for (std::size_t k = 0; k < 4; ++k) sum += directions[k * n + i] * directions[k * n + j];
      parameters->query_metric[i * n + j] = static_cast<float>(sum);
    }
  }
  const std::vector<double> inverse = parameters->transform.inverse();
  for (std::size_t k = 0; k < n; ++k) {
    double weight = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        weight += inverse[i * n + k] * static_cast<double>(parameters->query_metric[i * n + j]) *
                  inverse[j * n + k];
      }
    }
    parameters->weights.push_back(static_cast<float>(weight));
  }
  return parameters;
}

// keys [count, dim]: centroid + n F^-1 (sigma * N(0, 1)), n = 2^(normal / 2), plus `offset` in every
// coordinate.
inline std::vector<float> random_keys(const CalibratedParameters& parameters, std::int64_t count,
                                      double offset = 0.0, std::uint64_t seed = 2) {
  RandomStream random(seed, Purpose::synthetic, 18);
  const auto n = static_cast<std::size_t>(parameters.dim);
  const std::vector<double> inverse = parameters.transform.inverse();
  std::vector<float> keys(static_cast<std::size_t>(count) * n);
  std::vector<double> y(n);
  for (std::size_t t = 0; t < static_cast<std::size_t>(count); ++t) {
    const auto centroid = static_cast<std::size_t>(random.integer(parameters.num_centroids()));
    const double scale = std::exp2(0.5 * random.normal());
    for (std::size_t i = 0; i < n; ++i)
      y[i] = scale * static_cast<double>(parameters.deviations[i]) * random.normal();
    for (std::size_t i = 0; i < n; ++i) {
      double sum = offset + static_cast<double>(parameters.centroids[centroid * n + i]);
      for (std::size_t c = 0; c < n; ++c) sum += inverse[i * n + c] * y[c];
      keys[t * n + i] = static_cast<float>(sum);
    }
  }
  return keys;
}

// Keys as they were coded and decoded.
struct Coded {
  CodeBuffer codes;
  std::vector<float> decoded;
};

inline Coded round_trip(const Quantizer& codec, const std::vector<float>& keys,
                        const Context& context = Context{1}) {
  const auto count = static_cast<std::int64_t>(keys.size()) / codec.dim();
  Coded result{CodeBuffer(codec.layout(), count), std::vector<float>(keys.size())};
  codec.encode(context, {keys.data(), count, codec.dim()}, result.codes.view());
  codec.decode(context, std::as_const(result.codes).view(), {result.decoded.data(), count, codec.dim()});
  return result;
}

// sum over keys of error^T metric error.
inline double metric_error(const CalibratedParameters& parameters, const std::vector<float>& keys,
                           const std::vector<float>& decoded) {
  const auto n = static_cast<std::size_t>(parameters.dim);
  double total = 0.0;
  for (std::size_t row = 0; row < keys.size(); row += n) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        total += static_cast<double>(keys[row + i] - decoded[row + i]) *
                 static_cast<double>(parameters.query_metric[i * n + j]) *
                 static_cast<double>(keys[row + j] - decoded[row + j]);
      }
    }
  }
  return total;
}

}  // namespace rotorquant::testing_support
