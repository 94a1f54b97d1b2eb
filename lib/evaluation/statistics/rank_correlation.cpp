#include "evaluation/statistics/rank_correlation.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "evaluation/metrics/metric_registry.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr const char* targets[] = {"attention/kl", "output/nmse"};
constexpr const char* predictors[] = {"key/nmse",       "key/cosine",     "value/nmse",
                                      "ip/rmse",        "ip/bias",        "ip/slope",
                                      "ip/correlation", "attention/top1", "attention/kl"};

// Ranks 1..n, ties at their mean.
std::vector<double> ranks_of(std::span<const double> x) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return x[a] < x[b]; });
  std::vector<double> ranks(x.size());
  for (std::size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    while (end < order.size() && x[order[end]] == x[order[begin]]) ++end;
    for (std::size_t i = begin; i < end; ++i) ranks[order[i]] = 0.5 * static_cast<double>(begin + end + 1);
  }
  return ranks;
}

std::optional<double> row_loss(const Row& row, const std::string& tag) {
  for (const MetricSummary& metric : row.metrics) {
    if (metric.tag == tag) return loss(metric_registry()[metric_index(tag)].better, metric.mean);
  }
  return std::nullopt;
}

struct Pairs {
  std::vector<double> x, y;
};

}  // namespace

std::optional<double> spearman(std::span<const double> x, std::span<const double> y) {
  if (static_cast<std::int64_t>(x.size()) < least_ranked_rows) return std::nullopt;
  const std::vector<double> a = ranks_of(x), b = ranks_of(y);
  const double middle = 0.5 * static_cast<double>(x.size() + 1);  // of ranks, ties or not
  double product = 0.0, a_squares = 0.0, b_squares = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += (a[i] - middle) * (b[i] - middle);
    a_squares += (a[i] - middle) * (a[i] - middle);
    b_squares += (b[i] - middle) * (b[i] - middle);
  }
  if (a_squares == 0.0 || b_squares == 0.0) return std::nullopt;
  return product / std::sqrt(a_squares * b_squares);
}

std::vector<RankCorrelation> rank_correlations(const SweepResult& result, const std::vector<Row>& rows) {
  std::vector<RankCorrelation> correlations;
  for (std::int64_t dataset = 0; dataset < static_cast<std::int64_t>(result.datasets.size()); ++dataset) {
    for (const char* target : targets) {
      for (const char* metric : predictors) {
        if (std::string(metric) == target) continue;
        Pairs all;
        std::map<int, Pairs> by_bits;
        for (const Row& row : rows) {
          if (row.dataset != dataset) continue;
          const std::optional<double> x = row_loss(row, metric), y = row_loss(row, target);
          if (!x || !y) continue;
          Pairs& width = by_bits[result.settings.at(static_cast<std::size_t>(row.setting)).bits];
          for (Pairs* pairs : {&all, &width}) {
            pairs->x.push_back(*x);
            pairs->y.push_back(*y);
          }
        }
        if (static_cast<std::int64_t>(all.x.size()) < least_ranked_rows) continue;
        RankCorrelation found{dataset,      metric,
                              target,       spearman(all.x, all.y),
                              std::nullopt, static_cast<std::int64_t>(all.x.size())};
        double sum = 0.0, weight = 0.0;
        for (const auto& [bits, pairs] : by_bits) {
          const std::optional<double> rho = spearman(pairs.x, pairs.y);
          if (!rho) continue;
          sum += *rho * static_cast<double>(pairs.x.size());
          weight += static_cast<double>(pairs.x.size());
        }
        if (weight > 0.0) found.within = sum / weight;
        correlations.push_back(found);
      }
    }
  }
  return correlations;
}

}  // namespace rotorquant::evaluation
