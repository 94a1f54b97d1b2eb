#include "evaluation/metrics/rounded_attention.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "evaluation/metrics/cell_sums.hpp"
#include "evaluation/metrics/changed_row.hpp"
#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/ordered_sums.hpp"

namespace rotorquant::evaluation {
namespace {

using Block = AttentionReference::Block;

// x [visible] in float32, 0 from there to `stride`.
void narrow_row(const double* x, std::int64_t visible, std::int64_t stride, float* out) {
  for (std::int64_t j = 0; j < visible; ++j) out[j] = static_cast<float>(x[j]);
  std::fill(out + visible, out + stride, 0.0F);
}

// Rows of weights as a left operand of `stride` columns and `chunks` scales a row, 0 beyond what a row sees.
// weights [rows, stride]; visible_of(r): the keys that row r sees.
template <typename VisibleOf>
void round_weights(const float* weights, std::int64_t rows, std::int64_t stride, const VisibleOf& visible_of,
                   std::int64_t chunks, std::int16_t* rounded, float* scales) {
  RowToRound to_round[integer_tile_rows];
  for (std::int64_t begin = 0; begin < rows; begin += integer_tile_rows) {
    const std::int64_t count = std::min(integer_tile_rows, rows - begin);
    for (std::int64_t r = begin; r < begin + count; ++r) {
      const std::int64_t visible = visible_of(r);
      std::int16_t* row = rounded + r * stride;
      to_round[r - begin] = {weights + r * stride, visible, row, scales + r * chunks};
      std::fill(row + round_up(visible, float_lane_count), row + stride, std::int16_t{0});
      std::fill(scales + r * chunks + num_chunks(visible), scales + (r + 1) * chunks, 0.0F);
    }
    round_rows({to_round, static_cast<std::size_t>(count)});
  }
}

HostView<const float> difference(HostView<const float> x_hat, HostView<const float> x,
                                 AlignedArray<float>& out) {
  const std::int64_t count = x.rows * x.cols;
  out.reserve(count);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t c = 0; c < x.cols; ++c) out.data()[r * x.cols + c] = x_hat.row(r)[c] - x.row(r)[c];
  }
  return {out.data(), x.rows, x.cols};
}

// Calls body(first row, rows, keys that the last of them sees) for a block's rows in their order, which is
// that of how many keys they see: what lies beyond need not be multiplied.
template <typename Body>
void for_slabs(const RoundedReference& reference, const Block& block, const Body& body) {
  for (std::int64_t r = 0; r < block.rows; r += integer_tile_rows) {
    const std::int64_t rows = std::min(integer_tile_rows, block.rows - r);
    body(r, rows, reference.exact().row(block.begin + r + rows - 1).visible);
  }
}

// ⟨q, columns of `keys`⟩ of a block [rows, stride], for the keys that each row sees.
void key_products(const RoundedReference& reference, const Block& block, const IntegerPanels& keys,
                  float* out) {
  const IntegerRows queries = reference.queries(block);
  for_slabs(reference, block, [&](std::int64_t r, std::int64_t rows, std::int64_t visible) {
    integer_product(queries.from(r), rows, keys.depth(), keys, visible, out + r * block.stride, block.stride);
  });
}

// weights [rows, keys], 0 beyond what a row sees, times `values` -> out [rows, values.padded_cols()].
void weigh(const RoundedReference& reference, const Block& block, const IntegerRows& weights,
           const IntegerPanels& values, float* out) {
  const std::int64_t stride = values.padded_cols();
  for_slabs(reference, block, [&](std::int64_t r, std::int64_t rows, std::int64_t visible) {
    integer_product(weights.from(r), rows, visible, values, stride, out + r * stride, stride);
  });
}

// ⟨q,Δk⟩ of a block [rows, stride], for keys that the window holds from the window's errors.
void key_errors(const RoundedReference& reference, const Block& block, const SeenTensor& keys,
                RoundedWorkspace& workspace) {
  workspace.errors.reserve(block.rows * block.stride);
  float* errors = workspace.errors.data();
  key_products(reference, block, workspace.panels.keys, errors);
  if (!keys.has_window()) return;
  workspace.recent_errors.reserve(block.rows * block.stride);
  const float* recent = workspace.recent_errors.data();
  key_products(reference, block, workspace.panels.recent_keys, workspace.recent_errors.data());
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t visible = reference.exact().row(block.begin + r).visible;
    const std::int64_t begin = keys.coded_end[static_cast<std::size_t>(visible)];
    std::copy(recent + r * block.stride + begin, recent + r * block.stride + visible,
              errors + r * block.stride + begin);
  }
}

// weights times Δv -> out [rows, padded d_v], for values that the window holds from the window's errors.
void value_errors(const RoundedReference& reference, const Block& block, const SeenTensor& values,
                  const IntegerRows& weights, RoundedWorkspace& workspace, float* out) {
  const std::int64_t stride = workspace.panels.values.padded_cols();
  if (!values.has_window()) {
    weigh(reference, block, weights, workspace.panels.values, out);
    return;
  }
  workspace.coded_part.reserve(block.rows * block.stride);
  workspace.recent_part.reserve(block.rows * block.stride);
  std::int16_t* coded = workspace.coded_part.data();
  std::int16_t* recent = workspace.recent_part.data();
  std::fill_n(coded, block.rows * block.stride, std::int16_t{0});
  std::fill_n(recent, block.rows * block.stride, std::int16_t{0});
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t visible = reference.exact().row(block.begin + r).visible;
    const std::int64_t begin = values.coded_end[static_cast<std::size_t>(visible)];
    const std::int16_t* row = weights.values + r * weights.stride;
    std::copy(row, row + begin, coded + r * block.stride);
    std::copy(row + begin, row + visible, recent + r * block.stride + begin);
  }
  weigh(reference, block, {coded, block.stride, weights.scales, weights.scale_stride},
        workspace.panels.values, out);
  float* more = workspace.outputs[3].data();
  weigh(reference, block, {recent, block.stride, weights.scales, weights.scale_stride},
        workspace.panels.recent_values, more);
  for (std::int64_t i = 0; i < block.rows * stride; ++i) out[i] += more[i];
}

// e -> p̂ - p, rounded to `changes`, and the sums over the block's rows.
IntegerRows change_rows(const RoundedReference& reference, const Block& block, const NarrowRows& exact,
                        RoundedWorkspace& workspace, CellSums& sums) {
  const HeadTensors& tensors = reference.exact().tensors();
  const std::int64_t chunks = num_chunks(tensors.keys.rows);
  workspace.changes.reserve(block.rows * block.stride);
  workspace.change_scales.reserve(block.rows * chunks);
  workspace.exact_rows.clear();
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const AttentionReference::Row& row = reference.exact().row(block.begin + r);
    workspace.exact_rows.push_back({.visible = row.visible,
                                    .products = exact.products.data() + r * block.stride,
                                    .probabilities = exact.probabilities.data() + r * block.stride,
                                    .scale = tensors.softmax_scale,
                                    .log_sum_exp = row.log_sum_exp,
                                    .mean_product = reference.exact().pairs().mean,
                                    .top = &exact.top[static_cast<std::size_t>(r)]});
  }
  workspace.row_changes.resize(workspace.exact_rows.size());
  float* errors = workspace.errors.data();
  change_rows(workspace.exact_rows, errors, block.stride, workspace.row_changes.data(), workspace.row);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t visible = workspace.exact_rows[static_cast<std::size_t>(r)].visible;
    const RowChange& change = workspace.row_changes[static_cast<std::size_t>(r)];
    sums.add_row(change.sums, change.divergence, exact.top[static_cast<std::size_t>(r)], change.overlap,
                 visible, tensors.keys.rows);
  }
  const auto visible_of = [&](std::int64_t r) {
    return workspace.exact_rows[static_cast<std::size_t>(r)].visible;
  };
  round_weights(errors, block.rows, block.stride, visible_of, chunks, workspace.changes.data(),
                workspace.change_scales.data());
  return {workspace.changes.data(), block.stride, workspace.change_scales.data(), chunks};
}

// The three products of a block's outputs, and their sums of squares.
void add_output_errors(const RoundedReference& reference, const Block& block, const SeenTensor& values,
                       const IntegerRows& probabilities, const IntegerRows& changes,
                       RoundedWorkspace& workspace, CellSums& sums) {
  const std::int64_t stride = workspace.panels.values.padded_cols();
  for (AlignedArray<float>& output : workspace.outputs) output.reserve(block.rows * stride);
  float* by_keys = workspace.outputs[0].data();    // (p̂ - p) v
  float* by_values = workspace.outputs[1].data();  // p Δv
  float* by_both = workspace.outputs[2].data();    // (p̂ - p) Δv
  weigh(reference, block, changes, reference.values(), by_keys);
  value_errors(reference, block, values, probabilities, workspace, by_values);
  value_errors(reference, block, values, changes, workspace, by_both);
  for (std::int64_t begin = 0; begin < block.rows; begin += lane_count) {
    const std::int64_t rows = std::min(lane_count, block.rows - begin);
    Lanes keys[lane_count] = {};
    Lanes all_values[lane_count] = {};
    Lanes all[lane_count] = {};
    for (std::int64_t r = 0; r < rows; ++r) {
      OutputLanes<Lanes> squares;
      for (std::int64_t c = (begin + r) * stride; c < (begin + r + 1) * stride;
           c += output_lanes)  // 0 beyond d_v
        squares.add(widen(by_keys + c), widen(by_values + c), widen(by_both + c));
      keys[r] = squares.keys;
      all_values[r] = squares.values;
      all[r] = squares.all;
    }
    const OutputLanes<Lanes> sums_of_rows = {ordered_sums(keys), ordered_sums(all_values), ordered_sums(all)};
    for (std::int64_t r = 0; r < rows; ++r)
      sums.add_outputs({sums_of_rows.keys[r], sums_of_rows.values[r], sums_of_rows.all[r]});
  }
}

}  // namespace

RoundedReference::RoundedReference(HeadTensors tensors, std::int64_t max_bytes, const Context& context)
    : exact_(std::move(tensors), AttentionReference::WithoutRows{}) {
  const std::int64_t keys = exact_.tensors().keys.rows;
  std::int64_t bytes = 0;
  for (const Block& block : exact_.blocks()) {
    bytes +=
        block.rows * (block.stride * static_cast<std::int64_t>(2 * sizeof(float) + sizeof(std::int16_t)) +
                      num_chunks(keys) * static_cast<std::int64_t>(sizeof(float)));
  }
  const bool keep = bytes <= max_bytes;
  if (keep) kept_.resize(exact_.blocks().size());
  if (exact_.num_rows() > 0) values_.assign(exact_.tensors().values);
  std::vector<double> energies(static_cast<std::size_t>(exact_.num_rows()));
  exact_.compute_rows(0, context, [&](std::size_t index, const AttentionReference::ExactRows& rows) {
    thread_local RoundedWorkspace workspace;
    const Block& block = exact_.blocks()[index];
    NarrowRows& narrowed = keep ? kept_[index] : workspace.narrow;
    narrow(block, rows, narrowed);
    measure_outputs(block, narrowed, workspace, energies.data() + block.begin);
  });
  exact_.output_energy_ = std::accumulate(energies.begin(), energies.end(), 0.0);
  if (exact_.num_rows() > 0) round_queries();
}

// ‖p v‖² of a block's rows, from what the cells use of p and v.
void RoundedReference::measure_outputs(const Block& block, const NarrowRows& rows,
                                       RoundedWorkspace& workspace, double* energies) const {
  const std::int64_t stride = values_.padded_cols();
  workspace.outputs[0].reserve(block.rows * stride);
  const float* outputs = workspace.outputs[0].data();
  const IntegerRows probabilities = {rows.rounded.data(), block.stride, rows.scales.data(),
                                     num_chunks(exact_.tensors().keys.rows)};
  weigh(*this, block, probabilities, values_, workspace.outputs[0].data());
  for (std::int64_t r = 0; r < block.rows; ++r) {
    Lanes squares = {};
    for (std::int64_t c = r * stride; c < (r + 1) * stride; c += lane_count)  // 0 beyond d_v
      squares += widen(outputs + c) * widen(outputs + c);
    energies[r] = 0.0;
    for (std::int64_t lane = 0; lane < lane_count; ++lane) energies[r] += squares[lane];
  }
}

void RoundedReference::round_queries() {
  const std::int64_t dim = exact_.tensors().keys.cols;
  const std::int64_t padded = round_up(dim, float_lane_count);
  AlignedArray<float> query;
  query.reserve(padded);
  std::fill_n(query.data(), padded, 0.0F);
  queries_.reserve(exact_.num_rows() * padded);
  query_scales_.reserve(exact_.num_rows() * num_chunks(dim));
  for (const Block& block : exact_.blocks()) {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const double* row = exact_.queries(block) + r * dim;
      for (std::int64_t c = 0; c < dim; ++c) query.data()[c] = static_cast<float>(row[c]);
      const RowToRound to_round = {query.data(), dim, queries_.data() + (block.begin + r) * padded,
                                   query_scales_.data() + (block.begin + r) * num_chunks(dim)};
      round_rows({&to_round, 1});
    }
  }
}

IntegerRows RoundedReference::queries(const Block& block) const {
  const std::int64_t dim = exact_.tensors().keys.cols;
  const IntegerRows all = {queries_.data(), round_up(dim, float_lane_count), query_scales_.data(),
                           num_chunks(dim)};
  return all.from(block.begin);
}

const NarrowRows& RoundedReference::rows(std::size_t index, RoundedWorkspace& workspace) const {
  if (keeps_rows()) return kept_[index];
  const Block& block = exact_.blocks()[index];
  narrow(block, exact_.exact_rows(block, workspace.exact), workspace.narrow);
  return workspace.narrow;
}

void RoundedReference::narrow(const Block& block, const AttentionReference::ExactRows& exact,
                              NarrowRows& out) const {
  const std::int64_t count = block.rows * block.stride;
  const std::int64_t chunks = num_chunks(exact_.tensors().keys.rows);
  out.products.reserve(count);
  out.probabilities.reserve(count);
  out.rounded.reserve(count);
  out.scales.reserve(block.rows * chunks);
  out.top.resize(static_cast<std::size_t>(block.rows));
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t begin = r * block.stride;
    const AttentionReference::Row& row = exact_.row(block.begin + r);
    const std::int64_t visible = row.visible;
    narrow_row(exact.products + begin, visible, block.stride, out.products.data() + begin);
    narrow_row(exact.probabilities + begin, visible, block.stride, out.probabilities.data() + begin);
    out.top[static_cast<std::size_t>(r)] = rounded_top_keys(out.products.data() + begin, visible, row.top);
  }
  round_weights(
      out.probabilities.data(), block.rows, block.stride,
      [&](std::int64_t r) { return exact_.row(block.begin + r).visible; }, chunks, out.rounded.data(),
      out.scales.data());
}

void ErrorPanels::assign(const HeadTensors& exact, const SeenTensor& key_hat, const SeenTensor& value_hat) {
  keys.assign_transposed(difference(key_hat.coded, exact.keys, differences_));
  values.assign(difference(value_hat.coded, exact.values, differences_));
  if (key_hat.has_window())
    recent_keys.assign_transposed(difference(key_hat.recent, exact.keys, differences_));
  if (value_hat.has_window()) recent_values.assign(difference(value_hat.recent, exact.values, differences_));
}

std::vector<double> evaluate_cell(const RoundedReference& reference, const SeenTensor& keys,
                                  const SeenTensor& values, RoundedWorkspace& workspace) {
  const HeadTensors& tensors = reference.exact().tensors();
  check_seen(tensors, keys, values);
  CellSums sums;
  if (reference.exact().num_rows() > 0) workspace.panels.assign(tensors, keys, values);
  for (std::size_t b = 0; b < reference.exact().blocks().size(); ++b) {
    const Block& block = reference.exact().blocks()[b];
    const NarrowRows& exact = reference.rows(b, workspace);
    key_errors(reference, block, keys, workspace);
    const IntegerRows changes = change_rows(reference, block, exact, workspace, sums);
    const IntegerRows probabilities = {exact.rounded.data(), block.stride, exact.scales.data(),
                                       num_chunks(tensors.keys.rows)};
    add_output_errors(reference, block, values, probabilities, changes, workspace, sums);
  }
  return cell_metrics(reference.exact(), keys, values, sums);
}

}  // namespace rotorquant::evaluation
