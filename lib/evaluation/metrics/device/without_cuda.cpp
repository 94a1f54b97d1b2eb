// What a build without CUDA answers: there is no GPU to choose.
#ifndef ROTORQUANT_CUDA

#include "evaluation/metrics/device/device_metrics.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {

class DeviceMetrics::Head {};
class DeviceMetrics::Workspaces {};

void DeviceMetrics::HeadDeleter::operator()(Head* head) const {
  delete head;
}
DeviceMetrics::DeviceMetrics(int gpu) : gpu_(gpu) {
  static_cast<void>(gpu_);
  throw Error("GPU: this build has no CUDA; valid: the CPU");
}
DeviceMetrics::~DeviceMetrics() = default;
DeviceMetrics::HeadPointer DeviceMetrics::upload(const RoundedReference&, const Context&) const {
  return nullptr;
}
std::optional<std::vector<double>> DeviceMetrics::evaluate(const Head&, const SeenTensor&,
                                                           const SeenTensor&) const {
  return std::nullopt;
}

}  // namespace rotorquant::evaluation

#endif
