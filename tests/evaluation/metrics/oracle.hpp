#pragma once
// The metrics of a cell written straight from their definitions: plain loops, float64, one query head and one
// query after the other, no blocks and no shared work. What `evaluate_cell` is held against.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "evaluation/metrics/attention.hpp"

namespace rotorquant::evaluation::testing {

using Matrix = std::vector<std::vector<double>>;

inline Matrix matrix(HostView<const float> x) {
  Matrix m(static_cast<std::size_t>(x.rows));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    m[static_cast<std::size_t>(r)].assign(x.row(r), x.row(r) + x.cols);
  }
  return m;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

inline std::vector<double> softmax(const std::vector<double>& scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> p;
  double sum = 0.0;
  for (const double score : scores) {
    p.push_back(std::exp(score - largest));
    sum += p.back();
  }
  for (double& share : p) share /= sum;
  return p;
}

// log p, which stays finite where p underflows.
inline std::vector<double> log_softmax(const std::vector<double>& scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  for (const double score : scores) sum += std::exp(score - largest);
  std::vector<double> logs;
  for (const double score : scores) logs.push_back(score - largest - std::log(sum));
  return logs;
}

inline std::vector<double> mix(const std::vector<double>& weights, const Matrix& values) {
  std::vector<double> out(values[0].size(), 0.0);
  for (std::size_t t = 0; t < weights.size(); ++t) {
    for (std::size_t c = 0; c < out.size(); ++c) out[c] += weights[t] * values[t][c];
  }
  return out;
}

inline double squared_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

// Indices by descending score, equal scores by ascending index; the first `count` of them.
inline std::vector<std::size_t> strongest(const std::vector<double>& scores, std::size_t count) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(count, order.size()));
  return order;
}

inline void append_reconstruction(const Matrix& x, const Matrix& x_hat, std::vector<double>& metrics) {
  double error = 0.0;
  double energy = 0.0;
  double cosine = 0.0;
  double nonzero = 0.0;
  for (std::size_t t = 0; t < x.size(); ++t) {
    error += squared_distance(x[t], x_hat[t]);
    energy += dot(x[t], x[t]);
    if (dot(x[t], x[t]) == 0.0) continue;
    nonzero += 1.0;
    const double norms = std::sqrt(dot(x[t], x[t]) * dot(x_hat[t], x_hat[t]));
    cosine += norms > 0.0 ? dot(x[t], x_hat[t]) / norms : 0.0;
  }
  metrics.push_back(error / static_cast<double>(x.size()));
  metrics.push_back(error / energy);  // 0 / 0 is NaN, as is wanted
  metrics.push_back(cosine / nonzero);
}

// In registry order. Slope and correlation are left to the caller where truth or estimate is constant.
inline std::vector<double> oracle(const HeadTensors& head, HostView<const float> key_hat,
                                  HostView<const float> value_hat) {
  const Matrix k = matrix(head.keys);
  const Matrix k_hat = matrix(key_hat);
  const Matrix v = matrix(head.values);
  const Matrix v_hat = matrix(value_hat);
  std::vector<double> metrics;
  append_reconstruction(k, k_hat, metrics);
  append_reconstruction(v, v_hat, metrics);

  std::vector<double> truths;
  std::vector<double> estimates;
  double rows = 0.0;
  double divergence = 0.0;
  std::array<double, 8> eighth_divergence{};
  std::array<double, 8> eighth_rows{};
  double top1 = 0.0;
  double top8 = 0.0;
  double energy = 0.0;
  double error_both = 0.0;
  double error_keys = 0.0;
  double error_values = 0.0;
  for (const HostView<const float>& view : head.queries) {
    const Matrix queries = matrix(view);
    for (std::size_t q = 0; q < queries.size(); ++q) {
      const std::int64_t position = head.query_positions[q];
      std::size_t visible = k.size();
      if (head.causal) visible = std::min(visible, static_cast<std::size_t>(position) + 1);
      if (std::min(position, head.keys.rows) < head.min_context) continue;
      std::vector<double> scores;
      std::vector<double> scores_hat;
      for (std::size_t t = 0; t < visible; ++t) {
        truths.push_back(dot(queries[q], k[t]));
        estimates.push_back(dot(queries[q], k_hat[t]));
        scores.push_back(head.softmax_scale * truths.back());
        scores_hat.push_back(head.softmax_scale * estimates.back());
      }
      const std::vector<double> p = softmax(scores);
      const std::vector<double> p_hat = softmax(scores_hat);
      const std::vector<double> log_p = log_softmax(scores);
      const std::vector<double> log_p_hat = log_softmax(scores_hat);
      rows += 1.0;
      double row_divergence = 0.0;
      for (std::size_t t = 0; t < visible; ++t) row_divergence += p[t] * (log_p[t] - log_p_hat[t]);
      divergence += row_divergence;
      std::size_t eighth = 0;  // of the sequence, in which the row's own key lies
      while ((visible - 1) * 8 >= (eighth + 1) * k.size()) ++eighth;
      eighth_divergence[eighth] += row_divergence;
      eighth_rows[eighth] += 1.0;
      top1 += strongest(scores, 1) == strongest(scores_hat, 1) ? 1.0 : 0.0;
      const std::vector<std::size_t> exact = strongest(scores, 8);
      double common = 0.0;
      for (const std::size_t t : strongest(scores_hat, 8)) {
        common += static_cast<double>(std::count(exact.begin(), exact.end(), t));
      }
      top8 += common / static_cast<double>(exact.size());
      const std::vector<double> output = mix(p, v);
      energy += dot(output, output);
      error_both += squared_distance(mix(p_hat, v_hat), output);
      error_keys += squared_distance(mix(p_hat, v), output);
      error_values += squared_distance(mix(p, v_hat), output);
    }
  }
  const double pairs = static_cast<double>(truths.size());
  const double mean_truth = std::accumulate(truths.begin(), truths.end(), 0.0) / pairs;
  const double mean_estimate = std::accumulate(estimates.begin(), estimates.end(), 0.0) / pairs;
  double squared_error = 0.0;
  double spread_truth = 0.0;
  double spread_estimate = 0.0;
  double covariance = 0.0;
  for (std::size_t i = 0; i < truths.size(); ++i) {
    squared_error += (estimates[i] - truths[i]) * (estimates[i] - truths[i]);
    spread_truth += (truths[i] - mean_truth) * (truths[i] - mean_truth);
    spread_estimate += (estimates[i] - mean_estimate) * (estimates[i] - mean_estimate);
    covariance += (truths[i] - mean_truth) * (estimates[i] - mean_estimate);
  }
  metrics.push_back(mean_estimate - mean_truth);
  metrics.push_back(covariance / spread_truth);
  metrics.push_back(std::sqrt(squared_error / pairs));
  metrics.push_back(covariance / std::sqrt(spread_truth * spread_estimate));
  metrics.push_back(head.softmax_scale * std::sqrt(squared_error / pairs));
  for (const double sum : {divergence, top1, top8}) metrics.push_back(sum / rows);
  for (const double error : {error_both, error_keys, error_values}) metrics.push_back(error / energy);
  for (std::size_t i = 0; i < 8; ++i) {
    metrics.push_back(head.causal ? eighth_divergence[i] / eighth_rows[i] : std::nan(""));
  }
  return metrics;
}

}  // namespace rotorquant::evaluation::testing
