#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "evaluation/metrics/attention.hpp"
#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/metrics/reconstruction_error.hpp"
#include "evaluation/metrics/softmax_row.hpp"
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

// Sums over one row's visible keys, with t = ⟨q,k⟩ and e = ⟨q,k̂⟩ - t.
struct RowSums {
  double error = 0.0;           // Σ e
  double squared_error = 0.0;   // Σ e²
  double error_truth = 0.0;     // Σ e (t - mean of t)
  double expected_error = 0.0;  // Σ p e
};

// estimates, products and probabilities are 0 from the last visible key to the next multiple of lane_count.
RowSums row_sums(const double* estimates, const double* products, const double* probabilities,
                 std::int64_t visible, double truth_mean) {
  Lanes sums[4] = {};
  for (std::int64_t j = 0; j < visible; j += lane_count) {
    Lanes estimate;
    Lanes truth;
    Lanes probability;
    std::memcpy(&estimate, estimates + j, sizeof(estimate));
    std::memcpy(&truth, products + j, sizeof(truth));
    std::memcpy(&probability, probabilities + j, sizeof(probability));
    const Lanes error = estimate - truth;
    sums[0] += error;
    sums[1] += error * error;
    sums[2] += error * (truth - truth_mean);
    sums[3] += probability * error;
  }
  RowSums total;
  for (std::int64_t lane = 0; lane < lane_count; ++lane) {
    total.error += sums[0][lane];
    total.squared_error += sums[1][lane];
    total.error_truth += sums[2][lane];
    total.expected_error += sums[3][lane];
  }
  return total;
}

// Totals over the rows of a cell.
struct CellSums {
  RowSums pairs;
  double divergence = 0.0;  // Σ KL, nats
  std::array<double, num_position_bins> bin_divergence{};
  std::array<double, num_position_bins> bin_rows{};
  double top1 = 0.0;
  double top8 = 0.0;
  double output_error = 0.0;  // Σ‖·‖² of the three output metrics
  double output_error_keys = 0.0;
  double output_error_values = 0.0;
};

// The eighth of the sequence that a row with `visible` of `num_keys` keys, 1 <= visible <= num_keys, is in.
std::size_t position_bin(std::int64_t visible, std::int64_t num_keys) {
  return static_cast<std::size_t>((visible - 1) * static_cast<std::int64_t>(num_position_bins) / num_keys);
}

// One block of rows. products [rows, stride] comes as ⟨q,k̂⟩ and leaves as exp(ŝ - max ŝ), 0 beyond the
// visible keys; the sums' inverses go to inverse_sums [rows].
void add_attention_rows(const AttentionReference& reference, const AttentionReference::Block& block,
                        const AttentionReference::ExactRows& exact, double* products, double* inverse_sums,
                        CellSums& sums) {
  const double scale = reference.tensors().softmax_scale;
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const AttentionReference::Row& row = reference.row(block.begin + r);
    double* estimates = products + r * block.stride;
    std::fill(estimates + row.visible, estimates + round_up(row.visible, lane_count), 0.0);

    const RowSums pairs =
        row_sums(estimates, exact.products + r * block.stride, exact.probabilities + r * block.stride,
                 row.visible, reference.pairs().mean);
    sums.pairs.error += pairs.error;
    sums.pairs.squared_error += pairs.squared_error;
    sums.pairs.error_truth += pairs.error_truth;

    const TopKeys top = top_keys(estimates, row.visible);
    sums.top1 += top.index[0] == row.top.index[0] ? 1.0 : 0.0;
    sums.top8 += static_cast<double>(common_keys(top, row.top)) / static_cast<double>(row.top.count);

    const double max_score = scale * estimates[top.index[0]];
    const double sum = exponentials(estimates, row.visible, block.keys, scale, max_score, estimates);
    inverse_sums[r] = 1.0 / sum;
    // A divergence is never negative; rounding may make it so where p̂ = p.
    const double log_sum_exp = max_score + std::log(sum);
    const double divergence =
        std::max(0.0, log_sum_exp - row.log_sum_exp - scale * pairs.expected_error);
    sums.divergence += divergence;
    const std::size_t bin = position_bin(row.visible, reference.tensors().keys.rows);
    sums.bin_divergence[bin] += divergence;
    sums.bin_rows[bin] += 1.0;
  }
}

// Σ over rows of ‖factors[r] outputs(r) - p v of row begin + r‖².
double output_error(const AttentionReference& reference, const AttentionReference::Block& block,
                    const double* outputs, const double* factors) {
  const std::int64_t stride = reference.values().padded_cols();
  double total = 0.0;
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const double* exact = reference.output(block.begin + r);
    const double factor = factors == nullptr ? 1.0 : factors[r];
    for (std::int64_t c = 0; c < reference.values().cols(); ++c) {
      const double error = factor * outputs[r * stride + c] - exact[c];
      total += error * error;
    }
  }
  return total;
}

// ⟨q,k̂⟩ of a block [rows, stride], for keys that the window holds from the window's panels.
void estimate_products(const AttentionReference& reference, const AttentionReference::Block& block,
                       const SeenTensor& keys, AttentionWorkspace& workspace) {
  const std::int64_t dim = keys.coded.cols;
  workspace.products.reserve(block.rows * block.stride);
  double* products = workspace.products.data();
  panel_product(reference.queries(block), dim, block.rows, dim, workspace.keys, block.keys, products,
                block.stride);
  if (!keys.has_window()) return;
  workspace.recent_products.reserve(block.rows * block.stride);
  const double* recent = workspace.recent_products.data();
  panel_product(reference.queries(block), dim, block.rows, dim, workspace.recent_keys, block.keys,
                workspace.recent_products.data(), block.stride);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t visible = reference.row(block.begin + r).visible;
    const std::int64_t begin = keys.coded_end[static_cast<std::size_t>(visible)];
    std::copy(recent + r * block.stride + begin, recent + r * block.stride + visible,
              products + r * block.stride + begin);
  }
}

// weights [rows, stride] times v̂ -> workspace.outputs, for values that the window holds from the window's panels.
void estimate_outputs(const AttentionReference& reference, const AttentionReference::Block& block,
                      const SeenTensor& values, const double* weights, AttentionWorkspace& workspace) {
  const std::int64_t value_dim = values.coded.cols;
  const std::int64_t stride = workspace.values.padded_cols();
  double* outputs = workspace.outputs.data();
  if (!values.has_window()) {
    panel_product(weights, block.stride, block.rows, block.keys, workspace.values, value_dim, outputs,
                  stride);
    return;
  }
  workspace.coded_weights.reserve(block.rows * block.stride);
  workspace.recent_weights.reserve(block.rows * block.stride);
  workspace.recent_outputs.reserve(block.rows * stride);
  double* coded = workspace.coded_weights.data();
  double* recent = workspace.recent_weights.data();
  std::fill_n(coded, block.rows * block.stride, 0.0);
  std::fill_n(recent, block.rows * block.stride, 0.0);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t visible = reference.row(block.begin + r).visible;
    const std::int64_t begin = values.coded_end[static_cast<std::size_t>(visible)];
    const double* row = weights + r * block.stride;
    std::copy(row, row + begin, coded + r * block.stride);
    std::copy(row + begin, row + visible, recent + r * block.stride + begin);
  }
  panel_product(coded, block.stride, block.rows, block.keys, workspace.values, value_dim, outputs, stride);
  double* more = workspace.recent_outputs.data();
  panel_product(recent, block.stride, block.rows, block.keys, workspace.recent_values, value_dim, more,
                stride);
  for (std::int64_t i = 0; i < block.rows * stride; ++i) outputs[i] += more[i];
}

CellSums attention_sums(const AttentionReference& reference, const SeenTensor& keys, const SeenTensor& values,
                        AttentionWorkspace& workspace) {
  workspace.keys.assign_transposed(keys.coded);
  workspace.values.assign(values.coded);
  if (keys.has_window()) workspace.recent_keys.assign_transposed(keys.recent);
  if (values.has_window()) workspace.recent_values.assign(values.recent);
  const std::int64_t output_stride = workspace.values.padded_cols();
  CellSums sums;
  for (const AttentionReference::Block& block : reference.blocks()) {
    const AttentionReference::ExactRows exact = reference.exact_rows(block, workspace);
    workspace.outputs.reserve(block.rows * output_stride);
    workspace.inverse_sums.reserve(block.rows);
    const double* outputs = workspace.outputs.data();
    double* inverse_sums = workspace.inverse_sums.data();

    estimate_products(reference, block, keys, workspace);
    double* products = workspace.products.data();
    add_attention_rows(reference, block, exact, products, inverse_sums, sums);

    estimate_outputs(reference, block, values, products, workspace);
    sums.output_error += output_error(reference, block, outputs, inverse_sums);
    panel_product(products, block.stride, block.rows, block.keys, reference.values(), values.coded.cols,
                  workspace.outputs.data(), output_stride);
    sums.output_error_keys += output_error(reference, block, outputs, inverse_sums);
    estimate_outputs(reference, block, values, exact.probabilities, workspace);
    sums.output_error_values += output_error(reference, block, outputs, nullptr);
  }
  return sums;
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

std::vector<double> evaluate_cell(const AttentionReference& reference, const SeenTensor& seen_keys,
                                  const SeenTensor& seen_values, AttentionWorkspace& workspace) {
  check_seen("keys", seen_keys, reference.tensors().keys);
  check_seen("values", seen_values, reference.tensors().values);
  std::vector<double> metrics(static_cast<std::size_t>(Metric::count), undefined);
  const auto set = [&](Metric metric, double value) { metrics[static_cast<std::size_t>(metric)] = value; };

  const ReconstructionError keys = reconstruction_error(reference.tensors().keys, seen_keys.coded);
  set(Metric::key_mse, keys.mse);
  set(Metric::key_nmse, keys.nmse);
  set(Metric::key_cosine, keys.cosine);
  const ReconstructionError values = reconstruction_error(reference.tensors().values, seen_values.coded);
  set(Metric::value_mse, values.mse);
  set(Metric::value_nmse, values.nmse);
  set(Metric::value_cosine, values.cosine);
  if (reference.num_rows() == 0) return metrics;

  const CellSums sums = attention_sums(reference, seen_keys, seen_values, workspace);
  const AttentionReference::PairStatistics& truth = reference.pairs();
  const double rmse = std::sqrt(sums.pairs.squared_error / truth.count);
  set(Metric::ip_bias, sums.pairs.error / truth.count);
  set(Metric::ip_rmse, rmse);
  set(Metric::score_rmse, reference.tensors().softmax_scale * rmse);
  const double rounding = constant_deviation * truth.mean;
  if (truth.spread > truth.count * rounding * rounding) {
    set(Metric::ip_slope, 1.0 + sums.pairs.error_truth / truth.spread);
    const double error_spread = sums.pairs.squared_error - sums.pairs.error * sums.pairs.error / truth.count;
    const double estimate_spread = truth.spread + 2.0 * sums.pairs.error_truth + error_spread;
    if (estimate_spread > cancelled_spread * (truth.spread + error_spread)) {
      set(Metric::ip_correlation,
          (truth.spread + sums.pairs.error_truth) / std::sqrt(truth.spread * estimate_spread));
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
