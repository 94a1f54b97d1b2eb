#pragma once
// Keys and queries of one KV head with structure that a calibration can find.
#include <cmath>
#include <numeric>
#include <vector>

#include "evaluation/calibration/fit.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation::testing_support {

struct SyntheticHead {
  std::vector<float> keys;                  // [tokens, dim], after RoPE
  std::vector<std::vector<float>> queries;  // [group][tokens, dim]
  std::vector<std::int64_t> positions;      // [tokens]
  std::vector<std::int64_t> query_tokens;   // [tokens]
  std::int64_t dim;

  CalibrationSequence sequence() const {
    const auto tokens = static_cast<std::int64_t>(positions.size());
    CalibrationSequence result{{keys.data(), tokens, dim}, {}, positions, query_tokens};
    for (const std::vector<float>& head : queries) result.queries.push_back({head.data(), tokens, dim});
    return result;
  }
};

inline Rope synthetic_rope(std::int64_t dim, RopeLayout layout = RopeLayout::half) {
  Rope rope;
  for (std::int64_t j = 0; j < dim / 2; ++j) {
    rope.inv_freq.push_back(std::pow(1000.0, -2.0 * static_cast<double>(j) / static_cast<double>(dim)));
  }
  rope.layout = layout;
  return rope;
}

// Keys before RoPE: one of four centres plus a mixture of `dim` sources of falling energy; queries of unequal
// energy.
inline SyntheticHead synthetic_head(std::int64_t dim, std::int64_t tokens, const Rope& rope,
                                    std::uint32_t index, int group = 2) {
  RandomStream random(11, Purpose::synthetic, index);
  const auto d = static_cast<std::size_t>(dim);
  const auto n = static_cast<std::size_t>(tokens);
  std::vector<double> mixing(d * d);
  for (double& value : mixing) value = random.normal() / std::sqrt(static_cast<double>(d));
  std::vector<double> centres(4 * d);
  for (double& value : centres) value = 2.0 * random.normal();
  SyntheticHead head;
  head.dim = dim;
  head.positions.resize(n);
  std::iota(head.positions.begin(), head.positions.end(), 10);
  head.query_tokens.resize(n);
  std::iota(head.query_tokens.begin(), head.query_tokens.end(), 0);
  head.keys.resize(n * d);
  std::vector<double> sources(d);
  for (std::size_t t = 0; t < n; ++t) {
    const auto centre = static_cast<std::size_t>(random.integer(4));
    for (std::size_t i = 0; i < d; ++i) {
      sources[i] = random.normal() * std::exp2(2.0 - 6.0 * static_cast<double>(i) / static_cast<double>(d));
    }
    for (std::size_t i = 0; i < d; ++i) {
      double sum = centres[centre * d + i];
      for (std::size_t c = 0; c < d; ++c) sum += mixing[i * d + c] * sources[c];
      head.keys[t * d + i] = static_cast<float>(sum);
    }
  }
  for (int g = 0; g < group; ++g) {
    std::vector<float>& queries = head.queries.emplace_back(n * d);
    for (std::size_t i = 0; i < queries.size(); ++i) {
      queries[i] = static_cast<float>(random.normal() * (i % d < d / 4 ? 2.0 : 0.4));
    }
  }
  const RopeTable table(rope, head.positions);
  table.apply({head.keys.data(), tokens, dim});
  for (std::vector<float>& queries : head.queries) table.apply({queries.data(), tokens, dim});
  return head;
}

inline CalibrationModel synthetic_model(std::int64_t dim, const Rope& rope) {
  return {dim, 1.0 / std::sqrt(static_cast<double>(dim)), true, rope};
}

}  // namespace rotorquant::evaluation::testing_support
