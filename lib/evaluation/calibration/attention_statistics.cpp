#include "evaluation/calibration/attention_statistics.hpp"

#include <algorithm>
#include <cmath>

namespace rotorquant::evaluation::calibration {
namespace {

using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::int64_t queries_per_block = 256;
constexpr std::int64_t uniform_stride = 32;  // keys apart

// matrix <- R matrix R^T, R the inverse rotary embedding at `position`.
void turn_back(const Rope& rope, std::int64_t position, Matrix& matrix) {
  const auto pairs = static_cast<Eigen::Index>(rope.inv_freq.size());
  for (Eigen::Index j = 0; j < pairs; ++j) {
    const double angle = static_cast<double>(position) * rope.inv_freq[static_cast<std::size_t>(j)];
    const double cosine = std::cos(angle);
    const double sine = std::sin(angle);
    const Eigen::Index a = rope.layout == RopeLayout::half ? j : 2 * j;
    const Eigen::Index b = rope.layout == RopeLayout::half ? j + pairs : 2 * j + 1;
    for (Eigen::Index c = 0; c < matrix.cols(); ++c) {
      const double x = matrix(a, c);
      const double y = matrix(b, c);
      matrix(a, c) = x * cosine + y * sine;
      matrix(b, c) = y * cosine - x * sine;
    }
    for (Eigen::Index r = 0; r < matrix.rows(); ++r) {
      const double x = matrix(r, a);
      const double y = matrix(r, b);
      matrix(r, a) = x * cosine + y * sine;
      matrix(r, b) = y * cosine - x * sine;
    }
  }
}

// logits [n, T] -> softmax over the first visible[i] keys of row i, zeros beyond.
void softmax_rows(FloatMatrix& logits, std::span<const std::int64_t> visible) {
  for (Eigen::Index i = 0; i < logits.rows(); ++i) {
    const auto count = static_cast<Eigen::Index>(visible[static_cast<std::size_t>(i)]);
    auto row = logits.row(i);
    const float largest = row.head(count).maxCoeff();
    double total = 0.0;
    for (Eigen::Index s = 0; s < count; ++s) {
      row(s) = std::exp(row(s) - largest);
      total += static_cast<double>(row(s));
    }
    row.head(count) /= static_cast<float>(total);
    row.tail(logits.cols() - count).setZero();
  }
}

}  // namespace

AttentionStatistics attention_statistics(const CalibrationSequence& sequence, const Rope& rope,
                                         const AttentionOptions& options) {
  const std::int64_t tokens = sequence.keys.rows;
  const std::int64_t dim = sequence.keys.cols;
  const Eigen::Map<const FloatMatrix> keys(sequence.keys.data, tokens, dim);
  AttentionStatistics statistics{Vector::Zero(tokens), Matrix::Zero(dim, dim)};

  FloatMatrix queries(queries_per_block, dim);
  FloatMatrix weighted(queries_per_block, dim);
  std::vector<std::int64_t> visible;
  const auto flush = [&] {
    const auto count = static_cast<Eigen::Index>(visible.size());
    if (count == 0) return;
    FloatMatrix weights =
        static_cast<float>(options.softmax_scale) * (queries.topRows(count) * keys.transpose());
    softmax_rows(weights, visible);
    for (Eigen::Index s = 0; s < tokens; ++s) statistics.key_mass(s) += weights.col(s).cast<double>().sum();

    if (options.metric == QueryMetric::uniform) {
      for (Eigen::Index i = 0; i < count; ++i) {
        const std::int64_t seen = visible[static_cast<std::size_t>(i)];
        const float spread = 1.0F - weights.row(i).squaredNorm();
        const float share = spread / static_cast<float>((seen + uniform_stride - 1) / uniform_stride);
        for (Eigen::Index s = 0; s < tokens; ++s)
          weights(i, s) = s < seen && s % uniform_stride == 0 ? share : 0.0F;
      }
    } else if (options.metric == QueryMetric::attention) {
      weights.array() *= 1.0F - weights.array();
      weights.leftCols(std::min(options.sinks, tokens)).setZero();
    } else {
      weights.setZero();
    }
    Matrix outer(dim, dim);
    for (Eigen::Index s = 0; s < tokens; ++s) {
      Eigen::Index used = 0;
      for (Eigen::Index i = 0; i < count; ++i) {
        if (weights(i, s) > 0.0F) weighted.row(used++) = std::sqrt(weights(i, s)) * queries.row(i);
      }
      if (used == 0) continue;
      const auto rows = weighted.topRows(used);
      outer = FloatMatrix(rows.transpose() * rows).cast<double>();
      turn_back(rope, sequence.positions[static_cast<std::size_t>(s)], outer);
      statistics.query_metric += outer;
    }
    visible.clear();
  };

  for (const HostView<const float>& head : sequence.queries) {
    for (std::int64_t i = 0; i < head.rows; ++i) {
      const std::int64_t seen =
          options.causal ? sequence.query_tokens[static_cast<std::size_t>(i)] + 1 : tokens;
      if (seen <= options.min_context) continue;
      queries.row(static_cast<Eigen::Index>(visible.size())) =
          Eigen::Map<const Eigen::RowVectorXf>(head.row(i), static_cast<Eigen::Index>(dim));
      visible.push_back(seen);
      if (static_cast<std::int64_t>(visible.size()) == queries_per_block) flush();
    }
  }
  flush();
  return statistics;
}

}  // namespace rotorquant::evaluation::calibration
