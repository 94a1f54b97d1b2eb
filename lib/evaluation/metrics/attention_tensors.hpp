#pragma once
// One head's captured tensors, and what a quantized cache makes of them.
#include <cstdint>
#include <vector>

#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

// One KV head and the query heads that read it. Nothing is owned.
struct HeadTensors {
  HostView<const float> keys;                  // [T, d], T >= 1, d >= 1
  HostView<const float> values;                // [T, d_v], d_v >= 1
  std::vector<HostView<const float>> queries;  // one [T_q, d] per query head; none: no query metrics
  // [T_q], >= 0. A causal query at position p sees the keys 0..p, as far as there are that many.
  std::vector<std::int64_t> query_positions;
  double softmax_scale = 1.0;  // > 0
  bool causal = true;          // otherwise every query sees every key
  // Queries at a position below this one, which have fewer earlier keys, take no part in the query metrics.
  std::int64_t min_context = 0;
};

// Keys or values as queries meet them in a cache. Where the cache keeps its most recent tokens in 16 bits, a
// query that sees n tokens meets tokens coded_end[n] .. n - 1 as `recent` has them, and those before as
// `coded` has them: the state of the cache when that query is the newest.
struct SeenTensor {
  HostView<const float> coded;          // [T, d]
  HostView<const float> recent;         // [T, d]; no rows: there is no window
  std::vector<std::int64_t> coded_end;  // [T + 1]

  bool has_window() const { return recent.rows > 0; }
};

}  // namespace rotorquant::evaluation
