#pragma once
// The CUDA runtime with errors as exceptions and memory as objects.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "rotorquant/core/error.hpp"

namespace rotorquant::device {

// `what`: the operation, for the message.
inline void check(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // an error that is reported does not linger
  if (status == cudaErrorMemoryAllocation) throw Error(what + ": out of device memory; valid: fewer vectors");
  if (status == cudaErrorNoKernelImageForDevice) {
    throw Error(what + ": this build has no code for this GPU; valid: compute capability 9.0 or later");
  }
  throw Error(what + ": " + cudaGetErrorString(status));
}

// To be called after every launch: numbers of a kernel that did not run must not be used.
inline void check_launch(const char* kernel) {
  check(cudaGetLastError(), std::string("launch of ") + kernel);
}

// Device memory of `size` elements of T. The device that was current at construction owns it.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : size_(size) {
    if (size > 0) check(cudaMalloc(&data_, size * sizeof(T)), "allocation of device memory");
  }
  explicit Buffer(const std::vector<T>& host) : Buffer(host.size()) {
    if (size_ == 0) return;
    check(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), "copy to the device");
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { cudaFree(data_); }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// Makes a GPU current for the lifetime of the object.
class CurrentDevice {
 public:
  explicit CurrentDevice(int gpu) {
    check(cudaGetDevice(&previous_), "choice of a GPU");
    if (gpu != previous_) check(cudaSetDevice(gpu), "choice of GPU " + std::to_string(gpu));
  }
  ~CurrentDevice() { cudaSetDevice(previous_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int previous_ = 0;
};

}  // namespace rotorquant::device
