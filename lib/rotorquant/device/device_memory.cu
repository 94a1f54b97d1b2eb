#include <algorithm>

#include "rotorquant/device/device_memory.hpp"
#include "rotorquant/device/runtime.cuh"

namespace rotorquant {
namespace {

constexpr int read_threads = 512;
constexpr int read_blocks_per_processor = 8;

// Several loads at a time for each thread: what hides the latency of memory.
constexpr int loads_together = 4;

// So many times the second-level cache is read to fill it.
constexpr std::int64_t caches_of_other_data = 4;

std::int64_t cache_bytes(int gpu) {
  int bytes = 0;
  device::check(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, gpu), "look-up of the GPU");
  return bytes;
}

__global__ void read_kernel(const uint4* words, std::int64_t count, unsigned long long* result) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  uint4 joined = make_uint4(0, 0, 0, 0);
  for (std::int64_t i = thread; i < count; i += loads_together * threads) {
    uint4 loaded[loads_together];
#pragma unroll
    for (int k = 0; k < loads_together; ++k) {
      loaded[k] = i + k * threads < count ? words[i + k * threads] : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int k = 0; k < loads_together; ++k) {
      joined.x ^= loaded[k].x, joined.y ^= loaded[k].y, joined.z ^= loaded[k].z, joined.w ^= loaded[k].w;
    }
  }
  unsigned long long word =
      static_cast<unsigned long long>(joined.y ^ joined.w) << 32 | (joined.x ^ joined.z);
  for (int step = 16; step > 0; step /= 2) word ^= __shfl_xor_sync(0xFFFFFFFFU, word, step);
  if (threadIdx.x % 32 == 0) atomicXor(result, word);
}

class Event {
 public:
  Event() { device::check(cudaEventCreate(&event_), "event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record() const { device::check(cudaEventRecord(event_), "event"); }
  double seconds_until(const Event& end) const {
    device::check(cudaEventSynchronize(end.event_), "work on the GPU");
    float milliseconds = 0.0F;
    device::check(cudaEventElapsedTime(&milliseconds, event_, end.event_), "event");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

DeviceMemory::DeviceMemory(int gpu, std::int64_t bytes) : gpu_(gpu), bytes_(bytes) {
  const device::CurrentDevice current(gpu_);
  device::check(cudaMalloc(&data_, static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1))),
                std::to_string(bytes) + " bytes of device memory");
}

DeviceMemory::~DeviceMemory() {
  cudaFree(data_);
}

void DeviceMemory::upload(const void* host, std::int64_t offset, std::int64_t bytes) {
  const device::CurrentDevice current(gpu_);
  device::check(cudaMemcpy(data_ + offset, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice),
                "copy to the device");
}

void DeviceMemory::download(void* host, std::int64_t offset, std::int64_t bytes) const {
  const device::CurrentDevice current(gpu_);
  device::check(cudaMemcpy(host, data_ + offset, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost),
                "copy from the device");
}

void DeviceMemory::repeat(std::int64_t bytes) {
  const device::CurrentDevice current(gpu_);
  for (std::int64_t done = bytes; done < bytes_; done *= 2) {
    const auto count = static_cast<std::size_t>(std::min(done, bytes_ - done));
    device::check(cudaMemcpy(data_ + done, data_, count, cudaMemcpyDeviceToDevice), "copy on the device");
  }
}

void copy_on_gpu(const DeviceMemory& from, const DeviceMemory& to, std::int64_t bytes) {
  device::check(
      cudaMemcpyAsync(to.data(), from.data(), static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice),
      "copy on the device");
}

void read_on_gpu(const DeviceMemory& from, std::int64_t bytes, const DeviceMemory& result) {
  device::check(cudaMemsetAsync(result.data(), 0, sizeof(unsigned long long)), "clearing of device memory");
  int gpu = 0, processors = 0;
  device::check(cudaGetDevice(&gpu), "choice of a GPU");
  device::check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, gpu),
                "look-up of the GPU");
  read_kernel<<<static_cast<unsigned>(read_blocks_per_processor * processors), read_threads>>>(
      reinterpret_cast<const uint4*>(from.data()), bytes / 16,
      reinterpret_cast<unsigned long long*>(result.data()));
  device::check_launch("read");
}

ColdTimer::ColdTimer(int gpu)
    : gpu_(gpu),
      other_(gpu, caches_of_other_data * cache_bytes(gpu)),
      word_(gpu, sizeof(unsigned long long)) {
  const device::CurrentDevice current(gpu_);
  device::check(cudaMemset(other_.data(), 1, static_cast<std::size_t>(other_.bytes())),
                "filling of the cache");
}

double ColdTimer::seconds(int repetitions, const std::function<void()>& run) const {
  const device::CurrentDevice current(gpu_);
  const Event begin, end;
  double seconds = 0.0;
  for (int i = 0; i < repetitions; ++i) {
    // Read, not written: writing back what a filling wrote would fall to the run. No memory is allocated or
    // freed either, which would leave the run to look up its pages again.
    read_on_gpu(other_, other_.bytes(), word_);
    begin.record();
    run();
    end.record();
    seconds += begin.seconds_until(end);
  }
  return seconds;
}

}  // namespace rotorquant
