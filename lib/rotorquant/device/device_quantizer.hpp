#pragma once
// Quantizers on a GPU: the same codes, bit for bit in the same layout, as Quantizer on the CPU, which is
// their definition. Products and sums round otherwise than the CPU's, so that a coordinate within 1e-5 of the
// vector's norm of a boundary may fall to its other side; 2e-5 in a vector of one or two large coordinates.
//
// All calls are asynchronous on `stream` and allocate nothing once the workspace has grown to the sizes in
// use. Pointers are device memory of the GPU that the quantizer was built on, aligned to 16 bytes.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "rotorquant/codes/codes.hpp"
#include "rotorquant/core/element_type.hpp"
#include "rotorquant/quantizers/quantizer.hpp"

struct CUstream_st;

namespace rotorquant {

using DeviceStream = CUstream_st*;  // cudaStream_t; nullptr is the default stream

// [rows, cols] numbers of one type in device memory, row-major.
struct ConstDeviceTensor {
  const void* data = nullptr;
  ElementType type = ElementType::float32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};
struct DeviceTensor {
  void* data = nullptr;
  ElementType type = ElementType::float32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

// Scratch memory of calls on one stream. Grows when a call needs more and keeps what it has.
class DeviceWorkspace {
 public:
  DeviceWorkspace() = default;
  ~DeviceWorkspace();
  DeviceWorkspace(const DeviceWorkspace&) = delete;
  DeviceWorkspace& operator=(const DeviceWorkspace&) = delete;

  // At least `bytes` bytes, valid until the next call of reserve. Errors: out of device memory.
  void* reserve(std::int64_t bytes);

 private:
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

// Immutable; one object serves any number of streams and threads, each with a workspace of its own.
class DeviceQuantizer {
 public:
  virtual ~DeviceQuantizer() = default;

  virtual const CodeLayout& layout() const = 0;
  std::int64_t dim() const { return layout().dim; }

  // x [n, dim] -> codes of n vectors. A refused row (see Quantizer::encode) is reported by the next finish().
  virtual void encode(DeviceStream stream, const ConstDeviceTensor& x, Codes<Space::cuda> codes) const = 0;
  // codes of n vectors -> x [n, dim].
  virtual void decode(DeviceStream stream, ConstCodes<Space::cuda> codes, const DeviceTensor& x) const = 0;
  // scores(i, t) = estimate of <queries(i), x(t)>; queries [m, dim], scores [m, n].
  virtual void score(DeviceStream stream, DeviceWorkspace& workspace, DeviceView<const float> queries,
                     ConstCodes<Space::cuda> codes, DeviceView<float> scores) const = 0;
  // Waits for the stream. Errors: a failed launch or copy, and the first row that encode refused since the
  // last call.
  virtual void finish(DeviceStream stream) const = 0;
};

// Head dimensions up to this one have device kernels: a tile of rows and its rotation fit shared memory.
inline constexpr std::int64_t max_device_dim = 512;

// Why vectors of this dim cannot be coded on a GPU by this build, or nothing when they can.
std::optional<std::string> unsupported_device_dim(std::int64_t dim);

// The quantizer's device form on the GPU of this index (see available_gpus). Errors: what
// Quantizer::unsupported_on(Space::cuda) says, a GPU that this build has no code for, out of device memory.
std::unique_ptr<DeviceQuantizer> make_device_quantizer(std::shared_ptr<const Quantizer> quantizer, int gpu);

}  // namespace rotorquant
