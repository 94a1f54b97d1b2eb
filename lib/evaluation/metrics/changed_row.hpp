#pragma once
// What an error e of the products ⟨q,k⟩ does to one row of attention, computed from the error itself.
//
// With p = softmax(s) and ŝ = s + scale e, let x = scale e - Σ p scale e, so that Σ p x = 0, and
// g(x) = e^x - 1 - x >= 0. Then
//
//   KL(p‖p̂) = log(1 + G),  G = Σ p g(x)
//   p̂ - p   = p (x + g(x) - G) / (1 + G)
//
// No term cancels another: a divergence of 1e-9 nats has as many correct digits in float32 as one of 1, and
// p̂ itself, which float32 would round, is never formed.
#include <cstdint>
#include <span>

#include "evaluation/metrics/aligned_buffer.hpp"
#include "evaluation/metrics/cell_sums.hpp"
#include "evaluation/metrics/top_keys.hpp"

namespace rotorquant::evaluation {

// Scores that change by more are handled in float64: e^30 times the smallest float32 probability is still
// nothing.
inline constexpr float largest_change = 30.0F;

// One row's exact attention. Arrays hold 0 from `visible` to the next multiple of 16.
struct ExactRow {
  std::int64_t visible = 0;              // keys that the row sees, >= 1
  const float* products = nullptr;       // t = ⟨q,k⟩ [visible]
  const float* probabilities = nullptr;  // p [visible]
  double scale = 1.0;                    // s = scale t
  double log_sum_exp = 0.0;              // of s
  double mean_product = 0.0;             // of t over all rows, what error_truth is centred on
  const TopKeys* top = nullptr;          // of t
};

struct RowChange {
  RowSums sums;
  double divergence = 0.0;  // KL(p‖p̂), nats, >= 0
  TopOverlap overlap;       // of t's largest with those of t + e
};

// Scratch memory of one thread.
struct ChangeWorkspace {
  AlignedArray<std::int32_t> reaching;  // by row: keys that may be among the largest of t + e
  AlignedBuffer wide;                   // a row whose scores change by more than float32 exponentials stand
};

// Rows one after another. errors [rows, stride]: of row r, [visible] is e on entry and p̂ - p on return, 0
// from there to the next multiple of 16. `changes` has room for one of each row.
void change_rows(std::span<const ExactRow> rows, float* errors, std::int64_t stride, RowChange* changes,
                 ChangeWorkspace& workspace);

// KL(p‖p̂) from Σ exp(ŝ - shift), log Σ exp s and Σ p (ŝ - s): what float64 is for, since the terms cancel.
double wide_divergence(double shift, double sum, double log_sum_exp, double expected_change);

}  // namespace rotorquant::evaluation
