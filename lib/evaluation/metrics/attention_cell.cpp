#include <algorithm>
#include <cmath>
#include <cstring>

#include "evaluation/metrics/attention.hpp"
#include "evaluation/metrics/cell_sums.hpp"
#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/softmax_row.hpp"

namespace rotorquant::evaluation {
namespace {

// estimates, products and probabilities are 0 from the last visible key to the next multiple of lane_count.
RowSums row_sums(const double* estimates, const double* products, const double* probabilities,
                 std::int64_t visible, double truth_mean) {
  Lanes sums[4] = {};
  for (std::int64_t j = 0; j < visible; j += lane_count) {
    const Lanes truth = load_lanes(products + j);
    const Lanes error = load_lanes(estimates + j) - truth;
    sums[0] += error;
    sums[1] += error * error;
    sums[2] += error * (truth - truth_mean);
    sums[3] += load_lanes(probabilities + j) * error;
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
    const TopOverlap overlap = top_overlap(estimates, row.visible, row.top);
    const double max_score = scale * *std::max_element(estimates, estimates + row.visible);
    const double sum = exponentials(estimates, row.visible, block.keys, scale, max_score, estimates);
    inverse_sums[r] = 1.0 / sum;
    // A divergence is never negative; rounding may make it so where p̂ = p.
    const double log_sum_exp = max_score + std::log(sum);
    const double difference = log_sum_exp - row.log_sum_exp - scale * pairs.expected_error;
    const double divergence = difference < 0.0 ? 0.0 : difference;  // a NaN stays one
    sums.add_row(pairs, divergence, row.top, overlap, row.visible, reference.tensors().keys.rows);
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

// weights [rows, stride] times v̂ -> workspace.outputs, for values that the window holds from the window's
// panels.
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

}  // namespace

std::vector<double> evaluate_cell(const AttentionReference& reference, const SeenTensor& keys,
                                  const SeenTensor& values, AttentionWorkspace& workspace) {
  check_seen(reference.tensors(), keys, values);
  return cell_metrics(
      reference, keys, values,
      reference.num_rows() == 0 ? CellSums{} : attention_sums(reference, keys, values, workspace));
}

}  // namespace rotorquant::evaluation
