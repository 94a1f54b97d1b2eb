#pragma once
// What the queries of one KV head's group do with its keys, from one calibration sequence.
//
//   key mass      m_s = sum over queries of p_qs, the softmax weight of key s
//   query metric  M = sum over queries q and keys s of a_qs (R_-s q)(R_-s q)^T: an error e of the key before
//                 RoPE changes the logit by <R_-s q, e>, R_-s the inverse of the key's rotary embedding
// By QueryMetric, a_qs is
//   attention  p_qs (1 - p_qs), sinks left out: to second order KL(p || p^) = 1/2 Var_p(logit error), and
//              this is its expectation for errors that are independent between keys
//   uniform    1 - sum_s p_qs^2, shared evenly by every 32nd key that the query sees
#include <cstdint>
#include <span>
#include <vector>

#include "evaluation/calibration/matrix.hpp"
#include "rotorquant/cache/rope.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

enum class QueryMetric { attention, uniform, identity };

// One KV head of one captured sequence. Nothing is owned.
struct CalibrationSequence {
  HostView<const float> keys;                  // [T, d] as cached, after RoPE
  std::vector<HostView<const float>> queries;  // of the head's group, each [T_q, d], after RoPE
  std::span<const std::int64_t> positions;     // [T], what RoPE was applied with
  std::span<const std::int64_t> query_tokens;  // [T_q]: query i sees keys 0..query_tokens[i] when causal
};

namespace calibration {

struct AttentionOptions {
  double softmax_scale = 1.0;
  bool causal = true;
  std::int64_t min_context = 64;  // queries that see fewer earlier keys are left out
  std::int64_t sinks = 4;         // leading keys without error
  QueryMetric metric = QueryMetric::attention;
};

struct AttentionStatistics {
  Vector key_mass;      // [T]
  Matrix query_metric;  // [d, d], not normalised; zero for QueryMetric::identity
};

AttentionStatistics attention_statistics(const CalibrationSequence& sequence, const Rope& rope,
                                         const AttentionOptions& options);

}  // namespace calibration
}  // namespace rotorquant::evaluation
