#pragma once
// A comparison's verdict as one plain sentence with its numbers.
#include <string>

#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/statistics/comparison.hpp"

namespace rotorquant::evaluation {

// What the sentence says beside the comparison's own fields.
struct SentenceFacts {
  Better better = Better::lower;
  std::int64_t candidate_wins = 0;  // cells, averaged over seeds
  std::int64_t baseline_wins = 0;
  bool summaries_disagree =
      false;  // the ratio and the mean difference point to opposite sides, both beyond chance
};

std::string comparison_sentence(const Comparison& comparison, const SentenceFacts& facts);

}  // namespace rotorquant::evaluation
