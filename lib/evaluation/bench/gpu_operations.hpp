#pragma once
// The benchmark's operations on a GPU: encode, decode and score of quantizers that have device code,
// attention over packed keys and values, and what they are compared with: a copy and a read of device memory,
// attention over fp16 rows, and a dense rotation by cuBLAS. Of calibrated keys, which are fitted: scores of
// query groups and attention. Every run starts with the second-level cache full of other data.
#include "evaluation/bench/cpu_operations.hpp"

namespace rotorquant::evaluation {

inline constexpr char score_group_operation[] = "score-group";  // of the query heads that share a head
inline constexpr char rotate_operation[] = "rotate";  // a dense rotation alone, by dense_baseline: cuBLAS
inline constexpr char half_baseline[] =
    "fp16-split-k";  // attention over fp16 keys and values, by our own kernel

// Tokens of a head in attention; the shape's vectors are the tokens of all heads. GQA: query heads that share
// a head.
inline constexpr std::int64_t attended_tokens = 32768;
inline constexpr std::int64_t queries_a_head = 4;

struct GpuBenchRequest {
  std::vector<std::string> operations;  // of gpu_operation_names()
  std::vector<std::string> quantizers;
  BenchShape shape;  // vectors: with attend, a multiple of attended_tokens
  BenchTransforms transforms;
  int gpu = 0;
};

const std::vector<std::string>& gpu_operation_names();

// As cpu_group. What has no device code is told in `skipped`, with the reason.
BenchGroup gpu_group(const GpuBenchRequest& request, std::vector<SkippedOperation>& skipped);

}  // namespace rotorquant::evaluation
