#pragma once
// The benchmark's operations on the CPU: encode, decode and score of quantizers, and what they are compared
// with: a copy and a read of memory, the same codec after a dense rotation by a tuned matrix product, and
// scores of 16-bit keys.
#include <string>
#include <vector>

#include "evaluation/bench/fitted_quantizer.hpp"
#include "evaluation/bench/operation.hpp"

namespace rotorquant::evaluation {

inline constexpr char dense_baseline[] = "dense-gemm";      // turboquant with Eigen's matrix product
inline constexpr char element_baseline[] = "uncompressed";  // scores of the vectors as they are

struct CpuBenchRequest {
  std::vector<std::string> operations;  // of cpu_operation_names()
  std::vector<std::string> quantizers;  // texts, baselines among them
  BenchShape shape;
  BenchTransforms transforms;  // of fitted quantizers
};

const std::vector<std::string>& cpu_operation_names();

struct SkippedOperation {
  std::string what;
  std::string why;
};

// Copy, read, and every operation of every quantizer that has it; what cannot be built is told in `skipped`.
// The operations share the buffers they work on and keep them alive. Errors: UsageError for unknown
// operations, quantizers and parameters.
BenchGroup cpu_group(const CpuBenchRequest& request, std::vector<SkippedOperation>& skipped);

// Vectors whose numbers and codes lie half in the second-level cache ("l2") or go far beyond the last-level
// cache ("dram"). A plain number is taken as it is. Errors: UsageError.
std::int64_t vectors_of_size(const std::string& size, std::int64_t dim, rotorquant::ElementType type,
                             int threads);

}  // namespace rotorquant::evaluation
