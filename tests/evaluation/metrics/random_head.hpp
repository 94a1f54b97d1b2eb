#pragma once
// Seeded heads of any shape, which own what a HeadTensors points to.
#include <cstdint>
#include <numeric>
#include <ostream>
#include <vector>

#include "evaluation/metrics/attention.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation::testing {

struct HeadShape {
  std::int64_t tokens = 1;
  std::int64_t dim = 1;
  std::int64_t value_dim = 1;
  std::int64_t query_heads = 1;
  std::int64_t queries = 1;

  friend void PrintTo(const HeadShape& shape, std::ostream* out) {
    *out << shape.tokens << " tokens of " << shape.dim << " and " << shape.value_dim << ", "
         << shape.query_heads << " x " << shape.queries << " queries";
  }
};

struct RandomHead {
  std::vector<float> keys, values, key_hat, value_hat;
  std::vector<std::vector<float>> queries;
  HeadTensors tensors;

  // Reconstructions are the originals plus normal noise of standard deviation `noise`. Queries stand at the
  // last positions.
  RandomHead(const HeadShape& shape, std::uint64_t seed, double noise = 0.2) {
    RandomStream random(seed, Purpose::synthetic);
    const auto normals = [&](std::int64_t count) {
      std::vector<float> out(static_cast<std::size_t>(count));
      for (float& value : out) value = static_cast<float>(random.normal());
      return out;
    };
    const auto disturbed = [&](const std::vector<float>& exact) {
      std::vector<float> out;
      for (const float value : exact) out.push_back(value + static_cast<float>(noise * random.normal()));
      return out;
    };
    keys = normals(shape.tokens * shape.dim);
    values = normals(shape.tokens * shape.value_dim);
    key_hat = disturbed(keys);
    value_hat = disturbed(values);
    for (std::int64_t h = 0; h < shape.query_heads; ++h)
      queries.push_back(normals(shape.queries * shape.dim));
    tensors.keys = {keys.data(), shape.tokens, shape.dim};
    tensors.values = {values.data(), shape.tokens, shape.value_dim};
    for (const std::vector<float>& head : queries)
      tensors.queries.emplace_back(head.data(), shape.queries, shape.dim);
    tensors.query_positions.resize(static_cast<std::size_t>(shape.queries));
    std::iota(tensors.query_positions.begin(), tensors.query_positions.end(),
              std::max<std::int64_t>(0, shape.tokens - shape.queries));
    tensors.softmax_scale = 1.0 / std::sqrt(static_cast<double>(shape.dim));
  }
  RandomHead(const RandomHead&) = delete;  // the views would still point to the original
  RandomHead& operator=(const RandomHead&) = delete;

  HostView<const float> key_estimate() const {
    return {key_hat.data(), tensors.keys.rows, tensors.keys.cols};
  }
  HostView<const float> value_estimate() const {
    return {value_hat.data(), tensors.values.rows, tensors.values.cols};
  }
};

}  // namespace rotorquant::evaluation::testing
