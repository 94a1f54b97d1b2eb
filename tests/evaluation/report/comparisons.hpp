#pragma once
// Comparisons as reports hold them, for the tests of this folder.
#include <nlohmann/json.hpp>
#include <string>

namespace rotorquant::evaluation::testing {

inline nlohmann::ordered_json sample_comparison(const std::string& metric, const std::string& verdict,
                                                const std::string& gate) {
  return {{"dataset", 0},
          {"candidate", "rotorquant:tail=pad"},
          {"baseline", "turboquant"},
          {"bits", 3},
          {"metric", metric},
          {"candidate_mean", 0.275},
          {"baseline_mean", 0.1375},
          {"difference", 0.1375},
          {"difference_interval", {0.125, 0.15}},
          {"ratio", 2.0},
          {"ratio_interval", nullptr},
          {"worst", {{"ratio", 2.0}, {"layer", 3}, {"head", 1}}},
          {"cell_win_rate", 0.25},
          {"seed_cell_win_rate", 0.125},
          {"num_cells", 4},
          {"num_seeds", 2},
          {"candidate_bits_per_value", 3.375},
          {"baseline_bits_per_value", 3.25},
          {"at_equal_bits", nullptr},
          {"verdict", verdict},
          {"gate", gate},
          {"sentence", metric + ": turboquant is better."}};
}

}  // namespace rotorquant::evaluation::testing
