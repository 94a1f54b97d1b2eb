#include "rotorquant/device/device_quantizer.hpp"

#include "rotorquant/core/device.hpp"

namespace rotorquant {

std::optional<std::string> unsupported_device_dim(std::int64_t dim) {
  if (!built_with_cuda()) return "this build has no CUDA";
  if (dim > max_device_dim) {
    return "vectors of " + std::to_string(dim) + " coordinates have no CUDA kernels; valid: up to " +
           std::to_string(max_device_dim);
  }
  return std::nullopt;
}

}  // namespace rotorquant
