#include "evaluation/metrics/cell_sums.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "evaluation/metrics/reconstruction_error.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();
// Numbers that differ from their mean by less than this share of it are equal but for the rounding of their
// products.
constexpr double constant_deviation = 1e-12;
// The spread of the estimates is a sum of terms that may cancel; below this share of them only their rounding
// is left.
constexpr double cancelled_spread = 1e-13;

// The eighth of the sequence that a row with `visible` of `num_keys` keys, 1 <= visible <= num_keys, is in.
std::size_t position_bin(std::int64_t visible, std::int64_t num_keys) {
  return static_cast<std::size_t>((visible - 1) * static_cast<std::int64_t>(num_position_bins) / num_keys);
}

void check_shape(const char* what, HostView<const float> reconstructed, HostView<const float> exact) {
  if (reconstructed.rows != exact.rows || reconstructed.cols != exact.cols) {
    throw Error(fmt::format("reconstructed {} [{}, {}]; valid: [{}, {}]", what, reconstructed.rows,
                            reconstructed.cols, exact.rows, exact.cols));
  }
}

void check_seen(const char* what, const SeenTensor& seen, HostView<const float> exact) {
  check_shape(what, seen.coded, exact);
  if (!seen.has_window()) return;
  check_shape(what, seen.recent, exact);
  if (static_cast<std::int64_t>(seen.coded_end.size()) != exact.rows + 1) {
    throw Error(fmt::format("reconstructed {}: {} ends of the coded tokens; valid: {}", what,
                            seen.coded_end.size(), exact.rows + 1));
  }
}

}  // namespace

void CellSums::add_row(const RowSums& row, double row_divergence, const TopKeys& exact,
                       const TopOverlap& found, std::int64_t visible, std::int64_t num_keys) {
  error += row.error;
  squared_error += row.squared_error;
  error_truth += row.error_truth;
  divergence += row_divergence;
  const std::size_t bin = position_bin(visible, num_keys);
  bin_divergence[bin] += row_divergence;
  bin_rows[bin] += 1.0;
  top1 += found.first ? 1.0 : 0.0;
  top8 += static_cast<double>(found.common) / static_cast<double>(exact.count);
}

void check_seen(const HeadTensors& exact, const SeenTensor& keys, const SeenTensor& values) {
  check_seen("keys", keys, exact.keys);
  check_seen("values", values, exact.values);
}

std::vector<double> cell_metrics(const AttentionReference& reference, const SeenTensor& keys,
                                 const SeenTensor& values, const CellSums& sums) {
  std::vector<double> metrics(static_cast<std::size_t>(Metric::count), undefined);
  const auto set = [&](Metric metric, double value) { metrics[static_cast<std::size_t>(metric)] = value; };

  const ReconstructionError key_error = reconstruction_error(reference.tensors().keys, keys.coded);
  set(Metric::key_mse, key_error.mse);
  set(Metric::key_nmse, key_error.nmse);
  set(Metric::key_cosine, key_error.cosine);
  const ReconstructionError value_error = reconstruction_error(reference.tensors().values, values.coded);
  set(Metric::value_mse, value_error.mse);
  set(Metric::value_nmse, value_error.nmse);
  set(Metric::value_cosine, value_error.cosine);
  if (reference.num_rows() == 0) return metrics;

  const AttentionReference::PairStatistics& truth = reference.pairs();
  const double rmse = std::sqrt(sums.squared_error / truth.count);
  set(Metric::ip_bias, sums.error / truth.count);
  set(Metric::ip_rmse, rmse);
  set(Metric::score_rmse, reference.tensors().softmax_scale * rmse);
  const double rounding = constant_deviation * truth.mean;
  if (truth.spread > truth.count * rounding * rounding) {
    set(Metric::ip_slope, 1.0 + sums.error_truth / truth.spread);
    const double error_spread = sums.squared_error - sums.error * sums.error / truth.count;
    const double estimate_spread = truth.spread + 2.0 * sums.error_truth + error_spread;
    if (estimate_spread > cancelled_spread * (truth.spread + error_spread)) {
      set(Metric::ip_correlation,
          (truth.spread + sums.error_truth) / std::sqrt(truth.spread * estimate_spread));
    }
  }

  const auto rows = static_cast<double>(reference.num_rows());
  set(Metric::attention_kl, sums.divergence / rows);
  for (std::size_t bin = 0; reference.tensors().causal && bin < num_position_bins; ++bin) {
    if (sums.bin_rows[bin] > 0.0) {
      metrics[static_cast<std::size_t>(Metric::attention_kl_eighth1) + bin] =
          sums.bin_divergence[bin] / sums.bin_rows[bin];
    }
  }
  set(Metric::attention_top1, sums.top1 / rows);
  set(Metric::attention_top8, sums.top8 / rows);
  if (reference.output_energy() > 0.0) {
    set(Metric::output_nmse, sums.output_error / reference.output_energy());
    set(Metric::output_nmse_keys_only, sums.output_error_keys / reference.output_energy());
    set(Metric::output_nmse_values_only, sums.output_error_values / reference.output_energy());
  }
  return metrics;
}

}  // namespace rotorquant::evaluation
