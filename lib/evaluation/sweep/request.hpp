#pragma once
// What a sweep is asked to do: from the command line, a configuration file, or both.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace rotorquant::evaluation {

struct SweepRequest {
  std::string name;         // of the experiment, for captions
  std::string description;  // one sentence

  std::vector<std::string> quantizers;  // each for keys and values (values by value_spec)
  std::vector<std::string> keys;        // or apart: keys[i] goes with values[i],
  std::vector<std::string> values;      // and one of either goes with all of the other
  std::vector<std::int64_t> bits = {2, 3, 4};
  std::vector<std::int64_t> seeds = {0};
  std::string baseline;  // label of the setting that others are compared with, "" for none

  std::optional<std::vector<std::int64_t>> layers;  // the model's own indices; all when absent
  std::optional<std::vector<std::int64_t>> heads;   // KV heads; all when absent
  std::int64_t max_tokens = 0;                      // 0 = all
  std::int64_t sinks = 0;            // first tokens in 16 bits, for all quantizers that do not say
  std::string transforms;            // file of 'rotorquant calibrate', for calibrated keys
  std::int64_t min_context = 0;      // queries with fewer earlier keys are left out
  bool exact_metrics = false;        // attention metrics in float64 throughout
  std::vector<std::string> metrics;  // shown in tables, in this order; empty = the usual ones
};

// Reads a configuration file: strict JSON, whose keys are the fields above; bits, seeds, layers and heads as
// lists of numbers or as text such as "0-9". Errors name the file, the key and, for an unknown key, the
// nearest known one.
SweepRequest read_config(const std::string& path);

// The request as JSON, in a fixed order and with every field, for reports and journals.
nlohmann::ordered_json to_json(const SweepRequest& request);

}  // namespace rotorquant::evaluation
