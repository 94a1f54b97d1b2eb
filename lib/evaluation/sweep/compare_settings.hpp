#pragma once
// Comparisons of a finished sweep: every setting with the baseline of the same width, on every dataset.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "evaluation/sweep/results.hpp"
#include "rotorquant/core/parallel.hpp"

namespace rotorquant::evaluation {

// The metrics that verdicts are about, most telling first. Those that no cell has (no queries) are left out.
const std::vector<std::string>& verdict_metrics();

// An array in the order of datasets, settings and metrics; empty without a baseline.
nlohmann::ordered_json compare_settings(const SweepResult& result, const std::string& baseline,
                                        const Context& context);

}  // namespace rotorquant::evaluation
