#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "evaluation/metrics/attention.hpp"
#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/softmax_row.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

// A block's products, probabilities and estimates together stay in a second-level cache of 1 MiB: three times
// 256 KiB.
constexpr std::int64_t block_values = 32 * 1024;
// Multiples of the register tile of the product; more rows would not use a panel in the first-level cache
// better.
constexpr std::int64_t row_step = 12;
constexpr std::int64_t min_block_rows = row_step;
constexpr std::int64_t max_block_rows = 12 * row_step;

void check_tensors(const HeadTensors& tensors) {
  const auto& [keys, values, queries, positions, scale, causal, min_context] = tensors;
  if (keys.rows < 1 || keys.cols < 1) {
    throw Error(fmt::format("attention metrics: keys [{}, {}]; valid: at least one token and one channel",
                            keys.rows, keys.cols));
  }
  if (values.rows != keys.rows || values.cols < 1) {
    throw Error(fmt::format(
        "attention metrics: values [{}, {}]; valid: {} tokens, as the keys, and at least one channel",
        values.rows, values.cols, keys.rows));
  }
  for (const HostView<const float>& query : queries) {
    if (query.cols != keys.cols || query.rows != queries.front().rows) {
      throw Error(fmt::format("attention metrics: queries [{}, {}]; valid: [{}, {}]", query.rows, query.cols,
                              queries.front().rows, keys.cols));
    }
  }
  if (!queries.empty() && static_cast<std::int64_t>(positions.size()) != queries.front().rows) {
    throw Error(fmt::format("attention metrics: {} query positions for {} queries; valid: one each",
                            positions.size(), queries.front().rows));
  }
  for (const std::int64_t position : positions) {
    if (position < 0)
      throw Error(fmt::format("attention metrics: query position {}; valid: 0 or more", position));
  }
  if (!(scale > 0.0) || !std::isfinite(scale)) {
    throw Error(fmt::format("attention metrics: softmax scale {}; valid: a positive number", scale));
  }
  if (min_context < 0)
    throw Error(fmt::format("attention metrics: min_context {}; valid: 0 or more", min_context));
}

double sum_of(const Lanes& lanes) {
  double sum = 0.0;
  for (std::int64_t lane = 0; lane < lane_count; ++lane) sum += lanes[lane];
  return sum;
}

// products [visible], 0 from there to the next multiple of lane_count.
AttentionReference::PairStatistics pair_statistics(const double* products, std::int64_t visible) {
  const auto load = [&](std::int64_t j) { return load_lanes(products + j); };
  const auto count = static_cast<double>(visible);
  Lanes sums = {};
  for (std::int64_t j = 0; j < visible; j += lane_count) sums += load(j);
  const double mean = sum_of(sums) / count;
  Lanes spread = {};
  const std::int64_t whole = visible / lane_count * lane_count;
  for (std::int64_t j = 0; j < whole; j += lane_count) spread += (load(j) - mean) * (load(j) - mean);
  double last = 0.0;
  for (std::int64_t j = whole; j < visible; ++j) last += (products[j] - mean) * (products[j] - mean);
  return {.count = count, .mean = mean, .spread = sum_of(spread) + last};
}

}  // namespace

AttentionReference::AttentionReference(HeadTensors tensors, std::int64_t max_bytes, const Context& context)
    : AttentionReference(std::move(tensors), WithoutRows{}) {
  compute_rows(max_bytes, context, {});
}

AttentionReference::AttentionReference(HeadTensors tensors, WithoutRows) : tensors_(std::move(tensors)) {
  check_tensors(tensors_);
  if (tensors_.queries.empty()) return;
  order_rows();
  make_blocks();
}

void AttentionReference::compute_rows(std::int64_t max_bytes, const Context& context, const RowSink& sink) {
  if (tensors_.queries.empty()) return;
  keys_.assign_transposed(tensors_.keys);
  if (!sink) values_.assign(tensors_.values);
  const std::int64_t values_to_keep =
      blocks_.empty() ? 0 : blocks_.back().offset + blocks_.back().rows * blocks_.back().stride;
  const auto bytes_to_keep = 2 * values_to_keep * static_cast<std::int64_t>(sizeof(double));
  const bool keep = bytes_to_keep <= max_bytes;
  if (keep) {
    stored_products_.reserve(values_to_keep);
    stored_probabilities_.reserve(values_to_keep);
  }
  if (!sink) outputs_.reserve(num_rows() * values_.padded_cols());
  std::vector<PairStatistics> pairs_of_rows(rows_.size());
  parallel_for(context, static_cast<std::int64_t>(blocks_.size()), [&](std::int64_t index) {
    const Block& block = blocks_[static_cast<std::size_t>(index)];
    thread_local AttentionWorkspace workspace;
    if (!keep) {
      workspace.products.reserve(block.rows * block.stride);
      workspace.probabilities.reserve(block.rows * block.stride);
    }
    double* products = keep ? stored_products_.data() + block.offset : workspace.products.data();
    double* probabilities =
        keep ? stored_probabilities_.data() + block.offset : workspace.probabilities.data();
    compute_products(block, products);
    compute_row_summaries(block, products, probabilities, pairs_of_rows);
    if (sink) {
      sink(static_cast<std::size_t>(index), {products, probabilities});
      return;
    }
    panel_product(probabilities, block.stride, block.rows, block.keys, values_, values_.cols(),
                  outputs_.data() + block.begin * values_.padded_cols(), values_.padded_cols());
  });
  for (const PairStatistics& row : pairs_of_rows) add_pairs(row);
  keeps_probabilities_ = keep;
  if (sink) return;
  const double* outputs = outputs_.data();
  output_energy_ = std::inner_product(outputs, outputs + num_rows() * values_.padded_cols(), outputs, 0.0);
}

// Row i belongs to the i / G-th kept query and the i % G-th of the G query heads.
void AttentionReference::order_rows() {
  const std::int64_t tokens = tensors_.keys.rows;
  const std::vector<std::int64_t>& positions = tensors_.query_positions;
  std::vector<std::int64_t> kept;
  for (std::int64_t q = 0; q < static_cast<std::int64_t>(positions.size()); ++q) {
    const std::int64_t earlier = std::min(positions[static_cast<std::size_t>(q)], tokens);
    if (earlier >= tensors_.min_context) kept.push_back(q);
  }
  const auto visible = [&](std::int64_t q) {
    return tensors_.causal ? std::min(positions[static_cast<std::size_t>(q)], tokens - 1) + 1 : tokens;
  };
  std::stable_sort(kept.begin(), kept.end(),
                   [&](std::int64_t a, std::int64_t b) { return visible(a) < visible(b); });

  const std::int64_t dim = tensors_.keys.cols;
  queries_.reserve(static_cast<std::int64_t>(kept.size() * tensors_.queries.size()) * dim);
  double* out = queries_.data();
  for (const std::int64_t q : kept) {
    for (const HostView<const float>& head : tensors_.queries) {
      out = std::copy_n(head.row(q), dim, out);
      rows_.push_back(
          {.visible = visible(q), .max_score = 0.0, .inverse_sum = 0.0, .log_sum_exp = 0.0, .top = {}});
    }
  }
}

void AttentionReference::make_blocks() {
  std::int64_t offset = 0;
  for (std::int64_t begin = 0; begin < num_rows();) {
    const auto stride_of = [&](std::int64_t rows) {
      // One panel more than needed: rows a power of two apart would compete for the same cache sets.
      return round_up(row(begin + rows - 1).visible, panel_width) + panel_width;
    };
    std::int64_t rows = std::min(max_block_rows, num_rows() - begin);
    while (rows > min_block_rows && rows * stride_of(rows) > block_values)
      rows -= std::min(rows - min_block_rows, row_step);
    const std::int64_t stride = stride_of(rows);
    blocks_.push_back({.begin = begin,
                       .rows = rows,
                       .keys = row(begin + rows - 1).visible,
                       .stride = stride,
                       .offset = offset});
    begin += rows;
    offset += rows * stride;
  }
}

void AttentionReference::compute_products(const Block& block, double* products) const {
  panel_product(queries(block), tensors_.keys.cols, block.rows, tensors_.keys.cols, keys_, block.keys,
                products, block.stride);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    std::fill(products + r * block.stride + row(block.begin + r).visible, products + (r + 1) * block.stride,
              0.0);
  }
}

// Leaves in `probabilities` what compute_probabilities would.
void AttentionReference::compute_row_summaries(const Block& block, const double* products,
                                               double* probabilities, std::vector<PairStatistics>& pairs) {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    Row& row = rows_[static_cast<std::size_t>(block.begin + r)];
    const double* row_products = products + r * block.stride;
    row.top = top_keys(row_products, row.visible);
    row.max_score = tensors_.softmax_scale * row_products[row.top.index[0]];
    double* row_probabilities = probabilities + r * block.stride;
    const double sum = exponentials(row_products, row.visible, block.keys, tensors_.softmax_scale,
                                    row.max_score, row_probabilities);
    row.inverse_sum = 1.0 / sum;
    for (std::int64_t j = 0; j < row.visible; ++j) row_probabilities[j] *= row.inverse_sum;
    row.log_sum_exp = row.max_score + std::log(sum);

    pairs[static_cast<std::size_t>(block.begin + r)] = pair_statistics(row_products, row.visible);
  }
}

// Means and spreads of parts are combined exactly (Chan, Golub, LeVeque 1979), so that no large sums cancel.
void AttentionReference::add_pairs(const PairStatistics& part) {
  const double total = pairs_.count + part.count;
  const double step = part.mean - pairs_.mean;
  pairs_.spread += part.spread + step * step * pairs_.count * part.count / total;
  pairs_.mean += step * part.count / total;
  pairs_.count = total;
}

void AttentionReference::compute_probabilities(const Block& block, const double* products,
                                               double* probabilities) const {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const Row& exact = row(block.begin + r);
    double* out = probabilities + r * block.stride;
    exponentials(products + r * block.stride, exact.visible, block.keys, tensors_.softmax_scale,
                 exact.max_score, out);
    for (std::int64_t j = 0; j < exact.visible; ++j) out[j] *= exact.inverse_sum;
  }
}

AttentionReference::ExactRows AttentionReference::exact_rows(const Block& block,
                                                             AttentionWorkspace& workspace) const {
  if (keeps_probabilities_)
    return {stored_products_.data() + block.offset, stored_probabilities_.data() + block.offset};
  workspace.exact_products.reserve(block.rows * block.stride);
  workspace.probabilities.reserve(block.rows * block.stride);
  compute_products(block, workspace.exact_products.data());
  compute_probabilities(block, workspace.exact_products.data(), workspace.probabilities.data());
  return {workspace.exact_products.data(), workspace.probabilities.data()};
}

}  // namespace rotorquant::evaluation
