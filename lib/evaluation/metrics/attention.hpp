#pragma once
// What quantized keys and values do to one KV head's attention, against exact attention of the captured
// queries.
//
// With scores s = softmax_scale ⟨q,k⟩, p = softmax(s) over the keys that a query sees, and ŝ, p̂ from the
// reconstructed keys:
//
//   ip/*              estimates ⟨q,k̂⟩ against ⟨q,k⟩, over all visible pairs of all query heads together
//   score/rmse        softmax_scale * ip/rmse
//   attention/kl      mean over rows of KL(p‖p̂) = Σ p (s - ŝ) + log Σ exp ŝ - log Σ exp s, in nats
//   attention/kl_eighthI  the same over rows that see (I-1)/8 to I/8 of the T keys; causal attention alone
//   attention/top1    share of rows whose largest score is at the same key
//   attention/top8    mean of |A ∩ B| / min(8, visible keys), A and B the keys with the eight largest scores
//   output/*          Σ‖p̂ v̂ - p v‖² / Σ‖p v‖², and with v or p exact
//
// A row is one (query, query head). Everything here is float64 and defines the metrics; rounded_attention.hpp
// computes them several times faster. A metric that is undefined (no queries, all outputs zero, slope and
// correlation of a constant) is NaN.
#include <cstdint>
#include <functional>
#include <vector>

#include "evaluation/metrics/aligned_buffer.hpp"
#include "evaluation/metrics/attention_tensors.hpp"
#include "evaluation/metrics/panel_product.hpp"
#include "evaluation/metrics/top_keys.hpp"
#include "rotorquant/core/parallel.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

// Bytes that one head may use for exact scores and probabilities; 512 MiB hold 8192 causal tokens of one
// query head.
inline constexpr std::int64_t default_reference_bytes = std::int64_t{512} << 20;

// Scratch memory of one thread; reused from cell to cell, it stops growing at the largest head.
struct AttentionWorkspace {
  PanelMatrix keys;         // k̂^T [d, T]
  PanelMatrix values;       // v̂ [T, d_v]
  PanelMatrix recent_keys;  // both as the window holds them, where there is one
  PanelMatrix recent_values;
  AlignedBuffer recent_products;  // [rows of a block, visible keys]
  AlignedBuffer recent_weights;   // likewise
  AlignedBuffer coded_weights;    // likewise
  AlignedBuffer recent_outputs;   // [rows of a block, padded d_v]
  AlignedBuffer exact_products;   // [rows of a block, visible keys], where the reference does not keep them
  AlignedBuffer probabilities;    // likewise
  AlignedBuffer products;         // ⟨q,k̂⟩, then exp(ŝ - max ŝ)
  AlignedBuffer inverse_sums;     // [rows of a block]
  AlignedBuffer outputs;          // [rows of a block, padded d_v]
};

// Everything that the cells of one KV head share, whatever their quantizer and seed. Immutable once built, so
// that any number of threads may evaluate cells against it.
class AttentionReference {
 public:
  // Rows handled together. They are ordered by the number of keys they see, so that a block skips the keys
  // that none of its rows sees.
  struct Block {
    std::int64_t begin;  // first row
    std::int64_t rows;
    std::int64_t keys;    // the most that a row of the block sees
    std::int64_t stride;  // of its products and probabilities, in float64; a multiple of panel_width
    std::int64_t offset;  // in the stored products and probabilities
  };
  struct Row {
    std::int64_t visible;  // keys 0..visible-1
    double max_score;      // largest s
    double inverse_sum;    // 1 / Σ exp(s - max_score)
    double log_sum_exp;    // log Σ exp s
    TopKeys top;
  };
  // ⟨q,k⟩ and p of a block's rows [rows, stride]; 0 beyond the keys that the row sees.
  struct ExactRows {
    const double* products;
    const double* probabilities;
  };
  // ⟨q,k⟩ over all visible pairs.
  struct PairStatistics {
    double count = 0.0;
    double mean = 0.0;
    double spread = 0.0;  // Σ(⟨q,k⟩ - mean)²
  };

  // The views must outlive the reference. Products and probabilities of all rows are kept when they fit
  // `max_bytes`, and computed again for every cell otherwise, to the same bits.
  explicit AttentionReference(HeadTensors tensors, std::int64_t max_bytes = default_reference_bytes,
                              const Context& context = {});

  const HeadTensors& tensors() const { return tensors_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  const Row& row(std::int64_t index) const { return rows_[static_cast<std::size_t>(index)]; }
  std::int64_t num_rows() const { return static_cast<std::int64_t>(rows_.size()); }
  const double* queries(const Block& block) const {
    return queries_.data() + block.begin * tensors_.keys.cols;
  }
  const PanelMatrix& values() const { return values_; }
  // p v of row `index` [d_v].
  const double* output(std::int64_t index) const { return outputs_.data() + index * values_.padded_cols(); }
  double output_energy() const { return output_energy_; }  // Σ‖p v‖²
  const PairStatistics& pairs() const { return pairs_; }
  bool keeps_probabilities() const { return keeps_probabilities_; }

  ExactRows exact_rows(const Block& block, AttentionWorkspace& workspace) const;

 private:
  // Takes rows as they are computed, so that float64 ones are neither kept nor computed again for it.
  friend class RoundedReference;
  using RowSink = std::function<void(std::size_t block, const ExactRows& rows)>;

  // Orders rows and makes blocks; complete once compute_rows has followed.
  struct WithoutRows {};
  AttentionReference(HeadTensors tensors, WithoutRows);
  // A sink is called for each block, by several threads at once, and has the outputs and their energy to do.
  void compute_rows(std::int64_t max_bytes, const Context& context, const RowSink& sink);

  void order_rows();
  void make_blocks();
  void compute_products(const Block& block, double* products) const;
  void compute_row_summaries(const Block& block, const double* products, double* probabilities,
                             std::vector<PairStatistics>& pairs);
  void add_pairs(const PairStatistics& part);
  void compute_probabilities(const Block& block, const double* products, double* probabilities) const;

  HeadTensors tensors_;
  PanelMatrix keys_;       // k^T [d, T]
  PanelMatrix values_;     // v [T, d_v]
  AlignedBuffer queries_;  // [rows, d]
  AlignedBuffer outputs_;  // [rows, padded d_v]
  AlignedBuffer stored_products_;
  AlignedBuffer stored_probabilities_;
  std::vector<Row> rows_;
  std::vector<Block> blocks_;
  PairStatistics pairs_;
  double output_energy_ = 0.0;
  bool keeps_probabilities_ = false;
};

// The metrics of one cell in the order of metric_registry(). keys [T, d], values [T, d_v]: what a cache gives
// back; the error of vectors is that of `coded`. Each workspace serves one thread at a time.
std::vector<double> evaluate_cell(const AttentionReference& reference, const SeenTensor& keys,
                                  const SeenTensor& values, AttentionWorkspace& workspace);
// Without a window.
inline std::vector<double> evaluate_cell(const AttentionReference& reference, HostView<const float> key_hat,
                                         HostView<const float> value_hat, AttentionWorkspace& workspace) {
  return evaluate_cell(reference, SeenTensor{key_hat, {}, {}}, SeenTensor{value_hat, {}, {}}, workspace);
}

}  // namespace rotorquant::evaluation
