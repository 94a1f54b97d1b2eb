#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "evaluation/calibration/attention_statistics.hpp"
#include "evaluation/calibration/synthetic_head.hpp"

namespace rotorquant::evaluation::calibration {
namespace {

// Products and softmax rows run in float32.
constexpr double relative_tolerance = 2e-5;

// The definition, in float64, one query and key at a time.
AttentionStatistics by_definition(const testing_support::SyntheticHead& head, const Rope& rope,
                                  const AttentionOptions& options) {
  const auto tokens = static_cast<Eigen::Index>(head.positions.size());
  const auto dim = static_cast<Eigen::Index>(head.dim);
  AttentionStatistics result{Vector::Zero(tokens), Matrix::Zero(dim, dim)};
  for (const std::vector<float>& queries : head.queries) {
    for (Eigen::Index i = 0; i < tokens; ++i) {
      const std::int64_t seen = options.causal ? head.query_tokens[static_cast<std::size_t>(i)] + 1 : tokens;
      if (seen - 1 < options.min_context) continue;
      Vector p(seen);
      for (Eigen::Index s = 0; s < seen; ++s) {
        double product = 0.0;
        for (Eigen::Index c = 0; c < dim; ++c) {
          product += static_cast<double>(queries[static_cast<std::size_t>(i * dim + c)]) *
                     static_cast<double>(head.keys[static_cast<std::size_t>(s * dim + c)]);
        }
        p(s) = std::exp(options.softmax_scale * product);
      }
      p /= p.sum();
      result.key_mass.head(seen) += p;
      const double spread = (1.0 - p.squaredNorm()) / std::ceil(static_cast<double>(seen) / 32.0);
      for (Eigen::Index s = 0; s < seen; ++s) {
        double weight = 0.0;
        if (options.metric == QueryMetric::attention && s >= options.sinks) weight = p(s) * (1.0 - p(s));
        if (options.metric == QueryMetric::uniform && s % 32 == 0) weight = spread;
        if (weight == 0.0) continue;
        std::vector<float> turned(queries.begin() + i * dim, queries.begin() + (i + 1) * dim);
        const std::vector<std::int64_t> position = {head.positions[static_cast<std::size_t>(s)]};
        RopeTable(rope, position).remove({turned.data(), 1, head.dim});
        const Vector q = Eigen::Map<const Eigen::VectorXf>(turned.data(), dim).cast<double>();
        result.query_metric += weight * q * q.transpose();
      }
    }
  }
  return result;
}

TEST(AttentionStatistics, EqualTheDefinition) {
  for (const RopeLayout layout : {RopeLayout::half, RopeLayout::interleaved}) {
    const Rope rope = testing_support::synthetic_rope(6, layout);
    // More queries than one block of the implementation.
    const testing_support::SyntheticHead head = testing_support::synthetic_head(8, 180, rope, 0);
    for (const QueryMetric metric : {QueryMetric::attention, QueryMetric::uniform, QueryMetric::identity}) {
      for (const bool causal : {true, false}) {
        const AttentionOptions options{0.5, causal, 20, 3, metric};
        const AttentionStatistics expected = by_definition(head, rope, options);
        const AttentionStatistics actual = attention_statistics(head.sequence(), rope, options);
        EXPECT_LT((actual.key_mass - expected.key_mass).norm(),
                  relative_tolerance * expected.key_mass.norm());
        EXPECT_LE((actual.query_metric - expected.query_metric).norm(),
                  relative_tolerance * expected.query_metric.norm())
            << "metric " << static_cast<int>(metric);
      }
    }
  }
}

}  // namespace
}  // namespace rotorquant::evaluation::calibration
