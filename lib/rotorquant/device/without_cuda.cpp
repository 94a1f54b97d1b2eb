// What a build without CUDA answers where others would use a GPU. There is none to choose, so that nothing
// but the choice of a GPU can fail first.
#ifndef ROTORQUANT_CUDA

#include "rotorquant/core/error.hpp"
#include "rotorquant/device/device_memory.hpp"
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/device/offloaded_quantizer.hpp"
#include "rotorquant/device/packed_attention.hpp"

namespace rotorquant {
namespace {

[[noreturn]] void refuse() {
  throw Error("GPU: this build has no CUDA; valid: the CPU");
}

}  // namespace

DeviceWorkspace::~DeviceWorkspace() = default;
void* DeviceWorkspace::reserve(std::int64_t bytes) {
  bytes_ = bytes;
  static_cast<void>(data_);
  refuse();
}
std::unique_ptr<DeviceQuantizer> make_device_quantizer(std::shared_ptr<const Quantizer>, int) {
  refuse();
}
std::shared_ptr<const Quantizer> run_on_gpu(std::shared_ptr<const Quantizer>, int) {
  refuse();
}
std::unique_ptr<PackedAttention> make_packed_attention(std::shared_ptr<const Quantizer>,
                                                       std::shared_ptr<const Quantizer>, int) {
  refuse();
}
std::unique_ptr<KeyScores> make_calibrated_scores(std::span<const std::shared_ptr<const CalibratedCodec>>,
                                                  const Rope&, int) {
  refuse();
}
std::unique_ptr<PackedAttention> make_calibrated_attention(
    std::span<const std::shared_ptr<const CalibratedCodec>>, const Rope&, std::shared_ptr<const Quantizer>,
    int) {
  refuse();
}
void attend_half(DeviceStream, DeviceWorkspace&, const AttentionSize&, DeviceView<const float>, const void*,
                 const void*, DeviceView<float>) {
  refuse();
}

DeviceMemory::DeviceMemory(int gpu, std::int64_t bytes) : gpu_(gpu), bytes_(bytes) {
  static_cast<void>(gpu_);
  refuse();
}
DeviceMemory::~DeviceMemory() = default;
void DeviceMemory::upload(const void*, std::int64_t, std::int64_t) {
  refuse();
}
void DeviceMemory::download(void*, std::int64_t, std::int64_t) const {
  refuse();
}
void DeviceMemory::repeat(std::int64_t) {
  refuse();
}
void copy_on_gpu(const DeviceMemory&, const DeviceMemory&, std::int64_t) {
  refuse();
}
void read_on_gpu(const DeviceMemory&, std::int64_t, const DeviceMemory&) {
  refuse();
}
ColdTimer::ColdTimer(int gpu) : gpu_(gpu), other_(gpu, 0), word_(gpu, 0) {}
double ColdTimer::seconds(int, const std::function<void()>&) const {
  refuse();
}

}  // namespace rotorquant

#endif
