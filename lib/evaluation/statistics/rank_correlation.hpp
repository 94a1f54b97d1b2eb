#pragma once
// Which cheap metric predicts what attention does: Spearman's rank correlation of metrics over the rows of
// one dump, a row being one setting averaged over cells and seeds.
//
// Metrics are taken as losses (1 - metric where higher is better, the distance from the best value
// otherwise), so that 1 says that both rank all rows alike. Rows of more bits are better by any metric;
// `within` therefore also correlates ranks inside each width and averages over widths, weighted by their
// rows.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "evaluation/report/aggregate.hpp"

namespace rotorquant::evaluation {

// Fewest rows whose ranks say anything.
inline constexpr std::int64_t least_ranked_rows = 3;

// Spearman's rho, ties at their mean rank; nothing for fewer than least_ranked_rows or where either is
// constant. x, y [n].
std::optional<double> spearman(std::span<const double> x, std::span<const double> y);

struct RankCorrelation {
  std::int64_t dataset = 0;
  std::string metric;  // the cheap one
  std::string target;
  std::optional<double> overall;
  std::optional<double> within;  // over rows of equal bits
  std::int64_t rows = 0;
};

// The targets are attention/kl and output/nmse. Pairs that fewer than least_ranked_rows rows hold are left
// out.
std::vector<RankCorrelation> rank_correlations(const SweepResult& result, const std::vector<Row>& rows);

}  // namespace rotorquant::evaluation
