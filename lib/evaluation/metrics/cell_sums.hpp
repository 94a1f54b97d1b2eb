#pragma once
// What a cell's metrics are made of: sums over its rows, whichever way they were computed.
#include <array>
#include <cstdint>
#include <vector>

#include "evaluation/metrics/attention.hpp"
#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/metrics/output_sums.hpp"

namespace rotorquant::evaluation {

// Sums over one row's visible keys, with t = ⟨q,k⟩ and e = ⟨q,k̂⟩ - t.
struct RowSums {
  double error = 0.0;           // Σ e
  double squared_error = 0.0;   // Σ e²
  double error_truth = 0.0;     // Σ e (t - mean of t)
  double expected_error = 0.0;  // Σ p e
};

// Totals over the rows of a cell.
struct CellSums {
  double error = 0.0;  // as in RowSums, over all rows
  double squared_error = 0.0;
  double error_truth = 0.0;
  double divergence = 0.0;  // Σ KL, nats
  std::array<double, num_position_bins> bin_divergence{};
  std::array<double, num_position_bins> bin_rows{};
  double top1 = 0.0;
  double top8 = 0.0;
  double output_error = 0.0;  // Σ‖·‖² of the three output metrics
  double output_error_keys = 0.0;
  double output_error_values = 0.0;

  // Adds a row that sees `visible` of `num_keys` keys, whose top keys are `exact`; `found` are those that its
  // estimates select.
  void add_row(const RowSums& row, double row_divergence, const TopKeys& exact, const TopOverlap& found,
               std::int64_t visible, std::int64_t num_keys);
  void add_outputs(const OutputSums& row) {
    output_error += row.all;
    output_error_keys += row.keys;
    output_error_values += row.values;
  }
};

// Throws an Error where the shapes of what a cache gives back are not those of the head.
void check_seen(const HeadTensors& exact, const SeenTensor& keys, const SeenTensor& values);

// The metrics in the order of metric_registry(); those of queries are NaN where the reference has no rows.
std::vector<double> cell_metrics(const AttentionReference& reference, const SeenTensor& keys,
                                 const SeenTensor& values, const CellSums& sums);

}  // namespace rotorquant::evaluation
