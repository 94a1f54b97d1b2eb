#pragma once
// Arrays and codes in device memory, and rows of every element type, for tests of the GPU.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "rotorquant/core/device.hpp"
#include "rotorquant/core/half.hpp"
#include "rotorquant/device/device_quantizer.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {

inline void expect_success(cudaError_t status) {
  ASSERT_EQ(status, cudaSuccess) << cudaGetErrorString(status);
}

// Bytes in device memory, filled with 0xA5 so that what nothing writes is seen.
class DeviceBytes {
 public:
  explicit DeviceBytes(std::size_t bytes) : bytes_(bytes) {
    expect_success(cudaMalloc(&data_, bytes == 0 ? 1 : bytes));
    expect_success(cudaMemset(data_, 0xA5, bytes));
  }
  explicit DeviceBytes(const std::vector<std::uint8_t>& host) : DeviceBytes(host.size()) {
    expect_success(cudaMemcpy(data_, host.data(), host.size(), cudaMemcpyHostToDevice));
  }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  DeviceBytes(DeviceBytes&& other) noexcept : data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr;
  }
  ~DeviceBytes() { cudaFree(data_); }

  std::uint8_t* data() const { return static_cast<std::uint8_t*>(data_); }
  std::vector<std::uint8_t> host() const {
    std::vector<std::uint8_t> bytes(bytes_);
    expect_success(cudaMemcpy(bytes.data(), data_, bytes_, cudaMemcpyDeviceToHost));
    return bytes;
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

class DeviceCodes {
 public:
  DeviceCodes(const CodeLayout& layout, std::int64_t count) : count_(count) {
    for (const CodeArray& array : layout.arrays) {
      arrays_.emplace_back(static_cast<std::size_t>(array.bytes_per_vector() * count));
    }
  }
  DeviceCodes(const CodeLayout& layout, const CodeBuffer& codes) : count_(codes.size()) {
    for (std::size_t a = 0; a < layout.arrays.size(); ++a) {
      const std::uint8_t* const begin = codes.view().arrays[a];
      arrays_.emplace_back(
          std::vector<std::uint8_t>(begin, begin + layout.arrays[a].bytes_per_vector() * count_));
    }
  }

  Codes<Space::cuda> view() const {
    Codes<Space::cuda> codes;
    for (std::size_t a = 0; a < arrays_.size(); ++a) codes.arrays[a] = arrays_[a].data();
    codes.count = count_;
    return codes;
  }
  std::vector<std::uint8_t> host(std::size_t array) const { return arrays_[array].host(); }

 private:
  std::int64_t count_;
  std::vector<DeviceBytes> arrays_;
};

// x as the elements of a type, and rounded to it.
inline std::vector<std::uint8_t> to_elements(Matrix& x, ElementType type) {
  std::vector<std::uint8_t> bytes(x.values.size() * static_cast<std::size_t>(element_bytes(type)));
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    if (type == ElementType::float32) {
      std::memcpy(&bytes[4 * i], &x.values[i], 4);
      continue;
    }
    const bool half = type == ElementType::float16;
    const std::uint16_t word = half ? float_to_half(x.values[i]) : float_to_bfloat16(x.values[i]);
    std::memcpy(&bytes[2 * i], &word, 2);
    x.values[i] = half ? half_to_float(word) : bfloat16_to_float(word);
  }
  return bytes;
}

inline Matrix from_elements(const std::vector<std::uint8_t>& bytes, ElementType type, std::int64_t rows,
                            std::int64_t cols) {
  Matrix x(rows, cols);
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    if (type == ElementType::float32) {
      std::memcpy(&x.values[i], &bytes[4 * i], 4);
      continue;
    }
    std::uint16_t word = 0;
    std::memcpy(&word, &bytes[2 * i], 2);
    x.values[i] = type == ElementType::float16 ? half_to_float(word) : bfloat16_to_float(word);
  }
  return x;
}

inline constexpr ElementType element_types[] = {ElementType::float16, ElementType::bfloat16,
                                                ElementType::float32};

#define ROTORQUANT_NEEDS_GPU() \
  if (available_gpus().empty()) GTEST_SKIP() << "no GPU"

}  // namespace rotorquant::test
