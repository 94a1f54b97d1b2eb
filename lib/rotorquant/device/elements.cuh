#pragma once
// Numbers of the three element types as float32, and how a stored norm is read and written on the device.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant::device {

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <typename T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// body(T{}) with the C++ type of an element type.
template <typename Body>
void dispatch_element(ElementType type, const Body& body) {
  switch (type) {
    case ElementType::float16:
      return body(__half{});
    case ElementType::bfloat16:
      return body(__nv_bfloat16{});
    case ElementType::float32:
      return body(float{});
  }
}

__device__ inline void store_norm_at(NormType type, float norm, std::uint8_t* norms, std::int64_t row) {
  if (type == NormType::fp16) {
    reinterpret_cast<__half*>(norms)[row] = __float2half_rn(norm);
  } else {
    reinterpret_cast<float*>(norms)[row] = norm;
  }
}

__device__ inline float load_norm_at(NormType type, const std::uint8_t* norms, std::int64_t row) {
  return type == NormType::fp16 ? __half2float(reinterpret_cast<const __half*>(norms)[row])
                                : reinterpret_cast<const float*>(norms)[row];
}

}  // namespace rotorquant::device
