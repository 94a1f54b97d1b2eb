#pragma once
// The metrics of attention.hpp from the errors of keys and values, in narrow arithmetic.
//
// With Δk = k̂ - k and Δv = v̂ - v, what quantization changes is computed as such:
//
//   e = ⟨q,Δk⟩                            in rounded integers (integer_product.hpp)
//   KL(p‖p̂) and p̂ - p from e              in float32, without cancellation (changed_row.hpp)
//   p̂ v̂ - p v = (p̂ - p) v + p Δv + (p̂ - p) Δv, whose three products are again in rounded integers
//
// so that every rounding is relative to the error itself, and all sums over rows are float64. Exact scores
// and probabilities are float64, computed once per head and rounded once. Over a captured head (1536 rows) a
// metric agrees with the float64 one to 4e-5 on average and 2e-4 at worst, over a few dozen rows to 2e-3;
// `ip/bias`, a mean of signed errors, to 1e-5 of `ip/rmse`; `attention/top1` and `attention/top8` may count a
// row otherwise whose scores lie closer than that.
#include <cstdint>
#include <vector>

#include "evaluation/metrics/aligned_buffer.hpp"
#include "evaluation/metrics/attention.hpp"
#include "evaluation/metrics/changed_row.hpp"
#include "evaluation/metrics/integer_product.hpp"

namespace rotorquant::evaluation {

// Exact scores and probabilities of a block's rows as the cells use them; arrays [rows, block.stride].
struct NarrowRows {
  AlignedArray<float> products;        // ⟨q,k⟩, 0 beyond the keys that a row sees
  AlignedArray<float> probabilities;   // likewise
  AlignedArray<std::int16_t> rounded;  // probabilities
  AlignedArray<float> scales;          // of rounded [rows, num_chunks(T)]
  std::vector<TopKeys> top;            // [rows], of products
};

// The errors of a cell's keys and values, rounded as right operands.
struct ErrorPanels {
  IntegerPanels keys;         // Δk^T [d, T]
  IntegerPanels values;       // Δv [T, d_v]
  IntegerPanels recent_keys;  // both as the window holds them, where there is one
  IntegerPanels recent_values;

  void assign(const HeadTensors& exact, const SeenTensor& key_hat, const SeenTensor& value_hat);

 private:
  AlignedArray<float> differences_;  // scratch [T, dim]
};

// Scratch memory of one thread.
struct RoundedWorkspace {
  AttentionWorkspace exact;  // where rows are not kept
  NarrowRows narrow;         // likewise
  ErrorPanels panels;
  AlignedArray<float> errors;          // [rows of a block, stride]: e, then p̂ - p
  AlignedArray<float> recent_errors;   // likewise, where there is a window
  AlignedArray<std::int16_t> changes;  // p̂ - p [rows, stride], rounded
  AlignedArray<float> change_scales;
  AlignedArray<std::int16_t> coded_part;  // of weights, where there is a window
  AlignedArray<std::int16_t> recent_part;
  AlignedArray<float> outputs[4];    // [rows, padded d_v]
  std::vector<ExactRow> exact_rows;  // of a block
  std::vector<RowChange> row_changes;
  ChangeWorkspace row;
};

// What the cells of one KV head share. Immutable once built; any number of threads may evaluate cells against
// it.
class RoundedReference {
 public:
  // The views must outlive it. Rows are kept when they fit `max_bytes`, and computed again for every cell
  // otherwise, to the same bits.
  explicit RoundedReference(HeadTensors tensors, std::int64_t max_bytes = default_reference_bytes,
                            const Context& context = {});

  const AttentionReference& exact() const { return exact_; }
  bool keeps_rows() const { return !kept_.empty(); }
  IntegerRows queries(const AttentionReference::Block& block) const;
  const IntegerPanels& values() const { return values_; }
  // The rows of exact().blocks()[index].
  const NarrowRows& rows(std::size_t index, RoundedWorkspace& workspace) const;

 private:
  void round_queries();
  void measure_outputs(const AttentionReference::Block& block, const NarrowRows& rows,
                       RoundedWorkspace& workspace, double* energies) const;
  void narrow(const AttentionReference::Block& block, const AttentionReference::ExactRows& exact,
              NarrowRows& out) const;

  AttentionReference exact_;            // whose rows are not kept
  AlignedArray<std::int16_t> queries_;  // [rows, d rounded up to 16]
  AlignedArray<float> query_scales_;    // [rows, num_chunks(d)]
  IntegerPanels values_;                // v [T, d_v]
  std::vector<NarrowRows> kept_;        // by block, or empty
};

// The metrics of one cell in the order of metric_registry(), as the float64 evaluate_cell.
std::vector<double> evaluate_cell(const RoundedReference& reference, const SeenTensor& keys,
                                  const SeenTensor& values, RoundedWorkspace& workspace);

}  // namespace rotorquant::evaluation
