#pragma once
// Memory of a GPU and the time of work on it, for programs that are not compiled by nvcc themselves.
#include <cstdint>
#include <functional>

namespace rotorquant {

// Bytes in the memory of one GPU. Errors: out of device memory; a failed copy.
class DeviceMemory {
 public:
  DeviceMemory(int gpu, std::int64_t bytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  std::uint8_t* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }
  void upload(const void* host, std::int64_t offset, std::int64_t bytes);
  void download(void* host, std::int64_t offset, std::int64_t bytes) const;
  // Fills the memory with copies of its first `bytes` bytes.
  void repeat(std::int64_t bytes);

 private:
  int gpu_;
  std::int64_t bytes_;
  std::uint8_t* data_ = nullptr;
};

// The two memory baselines, on the default stream of the GPU that is current.
void copy_on_gpu(const DeviceMemory& from, const DeviceMemory& to, std::int64_t bytes);
// Reads every byte; writes 8 bytes, the exclusive or of all 64-bit words, to `result`. bytes: a multiple of
// 16.
void read_on_gpu(const DeviceMemory& from, std::int64_t bytes, const DeviceMemory& result);

// Times work that starts with other data in the GPU's second-level cache.
class ColdTimer {
 public:
  explicit ColdTimer(int gpu);
  // Of `repetitions` runs, by events on the default stream. Errors: work that failed; without it no number is
  // returned.
  double seconds(int repetitions, const std::function<void()>& run) const;

 private:
  int gpu_;
  DeviceMemory other_, word_;
};

}  // namespace rotorquant
