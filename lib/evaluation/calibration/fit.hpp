#pragma once
// Fits the parameters of `rotorquant-calibrated`, and what calibrated rivals need, to captured keys and
// queries, per layer and KV head:
//   1. weights of tokens from the attention they receive, centroids of keys before RoPE (k-means);
//   2. the covariance S_k of what the centroids leave, each key on its own scale, and the query metric S_q;
//   3. for every bit width a cascade of 3x3 blocks: greedy triples, then L-BFGS on all blocks together;
//   4. deviations and weights of its coordinates, from which widths follow;
//   5. plain moments of keys and queries (measure_statistics.hpp).
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "evaluation/calibration/attention_statistics.hpp"
#include "rotorquant/cache/rope.hpp"
#include "rotorquant/core/parallel.hpp"
#include "rotorquant/quantizers/calibrated_parameters.hpp"
#include "rotorquant/quantizers/key_statistics.hpp"

namespace rotorquant::evaluation {

struct FitSettings {
  std::vector<int> bits = {2, 3, 4};  // each 1..8
  BlockKind blocks = BlockKind::general;
  int layers = 8;       // of the cascade
  int iterations = 60;  // of L-BFGS
  int centroid_bits = 5;
  ScaleCode scale{};              // its zero is fitted
  std::int64_t sinks = 4;         // leading tokens left out of the fit
  std::int64_t min_context = 64;  // queries with fewer earlier keys are left out
  QueryMetric metric = QueryMetric::attention;
  double attention_power = 0.5;  // token weight = mix * normalised mass^power + (1 - mix) * uniform
  double attention_mix = 0.5;
  double scale_power = 1.0;             // covariance weight = token weight * n^power
  double covariance_shrinkage = 0.02;   // S_k <- (1 - s) S_k + s I, at trace d
  double metric_regularisation = 0.03;  // S_q <- S_q + r I, S_q at trace d
  int kmeans_restarts = 3;
  int kmeans_iterations = 25;
  std::uint64_t seed = 0;

  // Throws a UsageError that names the setting.
  void validate() const;
};

// One KV head: its sequences are pooled.
struct CalibrationInput {
  std::int64_t layer = 0;
  std::int64_t kv_head = 0;
  std::vector<CalibrationSequence> sequences;
};

// What all heads share.
struct CalibrationModel {
  std::int64_t head_dim = 0;
  double softmax_scale = 1.0;
  bool causal = true;
  Rope rope;  // without frequencies: keys are used as they are
};

// Where the calibration data came from.
struct CalibrationSource {
  std::string name;    // of the file, without its folder
  std::string sha256;  // of its bytes
  std::string model;
  std::string source;  // the text, as the dump tells
  std::int64_t tokens = 0;
};

// sum log(lambda w + theta) over coordinates: less is better, by 2 log(2) for each bit saved in one
// coordinate.
struct FitObjective {
  double before = 0.0;  // no mixing: each channel by itself
  double start = 0.0;   // greedy cascade
  double after = 0.0;   // refined
  double bound = 0.0;   // of any invertible matrix
};

struct BitsFit {
  int bits = 0;
  std::shared_ptr<const CalibratedParameters> parameters;
  FitObjective objective;
};

struct HeadFit {
  std::int64_t layer = 0;
  std::int64_t kv_head = 0;
  std::vector<BitsFit> bits;                        // in the order of FitSettings::bits
  std::shared_ptr<const KeyStatistics> statistics;  // for calibrated rivals
};

struct TransformSet {
  FitSettings settings;
  std::vector<CalibrationSource> sources;
  std::int64_t head_dim = 0;
  std::int64_t num_kv_heads = 0;
  Rope rope;                   // what keys were turned back with
  std::vector<HeadFit> heads;  // by layer, then KV head

  // Errors name what is missing and what there is.
  const BitsFit& find(std::int64_t layer, std::int64_t kv_head, int bits) const;
  const HeadFit& head(std::int64_t layer, std::int64_t kv_head) const;
  std::vector<std::int64_t> layers() const;  // ascending
  // Throws an Error unless the set fits a model of this shape.
  void check_model(std::int64_t model_head_dim, std::int64_t model_num_kv_heads,
                   const Rope& model_rope) const;
  bool fitted_on(const std::string& sha256) const;
};

using FitProgress =
    std::function<void(std::int64_t done, std::int64_t total)>;  // heads; called by one thread at a time

// The result depends on inputs, model and settings alone, not on the number of threads. `inputs` in the order
// of layer and KV head. Errors: too few tokens, shapes that do not agree, values that are not finite (layer
// and head named).
TransformSet fit_transforms(const Context& context, std::span<const CalibrationInput> inputs,
                            const CalibrationModel& model, const FitSettings& settings,
                            const FitProgress& progress = {});

}  // namespace rotorquant::evaluation
