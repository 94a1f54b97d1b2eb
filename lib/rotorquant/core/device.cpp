#include "rotorquant/core/device.hpp"

#ifdef ROTORQUANT_CUDA
#include <cuda_runtime_api.h>
#endif

namespace rotorquant {

#ifdef ROTORQUANT_CUDA

bool built_with_cuda() {
  return true;
}

std::vector<GpuInfo> available_gpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};
  std::vector<GpuInfo> gpus;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) continue;
    gpus.push_back({index, properties.name, 10 * properties.major + properties.minor,
                    static_cast<std::int64_t>(properties.totalGlobalMem)});
  }
  return gpus;
}

#else

bool built_with_cuda() {
  return false;
}

std::vector<GpuInfo> available_gpus() {
  return {};
}

#endif

}  // namespace rotorquant
