#pragma once
// Fitted transforms as a file: HDF5, format "rotorquant-transforms" version 2.
//
//   /                     attributes: format, format_version, head_dim d, num_kv_heads H, every scalar field
//                         of FitSettings, rope_layout, rotary_dim
//   /bits                 [count] int32
//   /rope_inv_freq        [rotary_dim / 2] float64; absent for models without RoPE
//   /sources/NNN          attributes of each calibration dump: name, sha256, model, source, tokens
//   /layers/NNN           NNN: the model's own layer index
//     centroids           [H, C, d] float32
//     query_metric        [H, d, d] float32: what encoders weigh errors by
//     scale_zero          [H] int32: the middle of the scale code, in steps
//     key_mean, key_energy, query_energy   [H, d] float32: moments before RoPE, for rivals (KeyStatistics)
//     components          [H, d, d] float32: principal components of keys, a row each
//     variances           [H, d] float32: along them
//     bits_B              for each bit width B
//       delta             [H, d] float32
//       triples           [H, L, d / 3, 3] int32: coordinates of each block; -1 where a layer has fewer
//       blocks            [H, L, d / 3, 3, 3] float32 row-major, applied from layer 0 on after delta
//       deviations        [H, d] float32
//       weights           [H, d] float32
//       widths            [H, d] uint8: of a sequence that measures nothing of its own, for other readers;
//                         follows from deviations and weights, and is checked
//       objective         [H, 4] float64: before, start, after, bound (FitObjective)
#include <string>

#include "evaluation/calibration/fit.hpp"

namespace rotorquant::evaluation {

// The file appears under `path` only when complete.
void write_transforms(const TransformSet& set, const std::string& path);

// Checks every shape, range and value; an Error names the file, the place and what would be valid.
TransformSet read_transforms(const std::string& path);

// "attention", "uniform", "identity"; "rotor", "general". Errors: UsageError that lists the valid names.
const char* query_metric_name(QueryMetric metric);
QueryMetric parse_query_metric(const std::string& name);
const char* block_kind_name(BlockKind kind);
BlockKind parse_block_kind(const std::string& name);

}  // namespace rotorquant::evaluation
