#pragma once
// The GPUs this process can use.
#include <cstdint>
#include <string>
#include <vector>

namespace rotorquant {

struct GpuInfo {
  int index = 0;
  std::string name;
  int compute_capability = 0;  // 10 * major + minor: 90 for Hopper
  std::int64_t memory_bytes = 0;
};

// Whether this library was built with CUDA.
bool built_with_cuda();

// Empty without CUDA, without a driver and without a GPU.
std::vector<GpuInfo> available_gpus();

}  // namespace rotorquant
