#include <mutex>

#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/transpose.hpp"
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/device/offloaded_quantizer.hpp"
#include "rotorquant/device/runtime.cuh"

namespace rotorquant {
namespace {

class OffloadedQuantizer final : public Quantizer {
 public:
  OffloadedQuantizer(std::shared_ptr<const Quantizer> quantizer, int gpu)
      : quantizer_(std::move(quantizer)), gpu_(gpu), device_(make_device_quantizer(quantizer_, gpu)) {}

  const CodeLayout& layout() const override { return quantizer_->layout(); }
  std::int64_t stored_floats() const override { return quantizer_->stored_floats(); }
  std::optional<std::string> unsupported_on(Space space) const override {
    return quantizer_->unsupported_on(space);
  }

  void encode(const Context&, HostView<const float> x, Codes<Space::cpu> codes) const override {
    if (x.rows == 0) return;
    const std::scoped_lock lock(mutex_);
    const device::CurrentDevice current(gpu_);
    const Codes<Space::cuda> device_codes = reserve(x.rows);
    device::check(cudaMemcpy(vectors(), x.data, bytes_of(x.rows), cudaMemcpyHostToDevice),
                  "copy to the device");
    device_->encode(nullptr, {vectors(), ElementType::float32, x.rows, dim()}, device_codes);
    device_->finish(nullptr);
    for_each_array(x.rows, [&](std::size_t a, std::size_t bytes) {
      device::check(cudaMemcpy(codes.arrays[a], device_codes.arrays[a], bytes, cudaMemcpyDeviceToHost),
                    "copy from the device");
    });
  }

  void decode(const Context&, ConstCodes<Space::cpu> codes, HostView<float> x) const override {
    if (x.rows == 0) return;
    const std::scoped_lock lock(mutex_);
    const device::CurrentDevice current(gpu_);
    const Codes<Space::cuda> device_codes = reserve(x.rows);
    for_each_array(x.rows, [&](std::size_t a, std::size_t bytes) {
      device::check(cudaMemcpy(device_codes.arrays[a], codes.arrays[a], bytes, cudaMemcpyHostToDevice),
                    "copy to the device");
    });
    device_->decode(nullptr, device_codes, {vectors(), ElementType::float32, x.rows, dim()});
    device_->finish(nullptr);
    device::check(cudaMemcpy(x.data, vectors(), bytes_of(x.rows), cudaMemcpyDeviceToHost),
                  "copy from the device");
  }

  // From vectors decoded all at once: block by block, as the base class does it, the GPU would idle.
  void score(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
             HostView<float> scores) const override {
    std::vector<float> decoded(static_cast<std::size_t>(codes.count * dim()));
    decode(context, codes, {decoded.data(), codes.count, dim()});
    const std::vector<float> keys = transpose({decoded.data(), codes.count, dim()});
    dense_product(queries, {keys.data(), dim(), codes.count}, scores);
  }

 private:
  std::size_t bytes_of(std::int64_t rows) const {
    return sizeof(float) * static_cast<std::size_t>(rows * dim());
  }
  void* vectors() const { return memory_.data(); }

  template <typename Body>
  void for_each_array(std::int64_t rows, const Body& body) const {
    for (std::size_t a = 0; a < layout().arrays.size(); ++a) {
      body(a, static_cast<std::size_t>(rows * layout().arrays[a].bytes_per_vector()));
    }
  }

  // Device memory for float32 vectors and, behind them, their codes.
  Codes<Space::cuda> reserve(std::int64_t rows) const {
    constexpr std::size_t alignment = 256;
    const auto aligned = [](std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; };
    std::size_t needed = aligned(bytes_of(rows));
    for_each_array(rows, [&](std::size_t, std::size_t bytes) { needed += aligned(bytes); });
    if (memory_.size() < needed) {
      memory_ = {};
      memory_ = device::Buffer<std::uint8_t>(needed);
    }
    Codes<Space::cuda> codes;
    codes.count = rows;
    std::uint8_t* next = memory_.data() + aligned(bytes_of(rows));
    for_each_array(rows, [&](std::size_t a, std::size_t bytes) {
      codes.arrays[a] = next;
      next += aligned(bytes);
    });
    return codes;
  }

  std::shared_ptr<const Quantizer> quantizer_;
  int gpu_;
  std::unique_ptr<DeviceQuantizer> device_;
  mutable std::mutex mutex_;
  mutable device::Buffer<std::uint8_t> memory_;
};

}  // namespace

std::shared_ptr<const Quantizer> run_on_gpu(std::shared_ptr<const Quantizer> quantizer, int gpu) {
  return std::make_shared<OffloadedQuantizer>(std::move(quantizer), gpu);
}

}  // namespace rotorquant
