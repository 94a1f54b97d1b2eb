#pragma once
// Calibration data out of KV dumps: every layer and KV head that a dump holds, pooled over dumps.
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "evaluation/calibration/fit.hpp"
#include "evaluation/dump/dump.hpp"

namespace rotorquant::evaluation {

// The rotary embedding of a dump's keys; without frequencies where rope_stage is "none". Errors: a dump of
// keys after RoPE without rope_inv_freq, and one of keys before RoPE (their queries' embedding is not known).
Rope dump_rope(const Dump& dump);

// Owns what its inputs point to: not copyable.
struct CalibrationData {
  CalibrationData() = default;
  CalibrationData(CalibrationData&&) = default;
  CalibrationData& operator=(CalibrationData&&) = default;

  CalibrationModel model;
  std::vector<CalibrationInput> inputs;  // by layer, then KV head
  std::vector<CalibrationSource> sources;

  std::vector<std::vector<float>> tensors;           // [tokens, head_dim] each
  std::vector<std::vector<std::int64_t>> positions;  // of each dump
  std::vector<std::vector<std::int64_t>> query_tokens;
};

// All dumps must be of one model (head_dim, heads, rotary embedding, softmax scale, mask) and have queries.
// `layers` restricts the fit; each must be in at least one dump. The tensors are held in memory as float32.
CalibrationData load_calibration_data(std::span<const Dump> dumps,
                                      const std::optional<std::vector<std::int64_t>>& layers = std::nullopt);

}  // namespace rotorquant::evaluation
