#pragma once
// How kernels refuse rows: the least (row, reason) over all threads survives in one word of device memory.
#include <cstdint>
#include <string>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant::device {

enum class Refusal : unsigned { value, norm, residual, scale, transform, cost, centroid };
inline constexpr int refusal_bits = 3;

inline constexpr unsigned long long no_refusal = ~0ULL;

__device__ inline void refuse(unsigned long long* first, std::int64_t row, Refusal reason) {
  atomicMin(first, static_cast<unsigned long long>(row) << refusal_bits | static_cast<unsigned>(reason));
}

// Why the norm of a row cannot be stored, if it cannot.
__device__ inline void check_norm(unsigned long long* first, NormType type, float norm, std::int64_t row) {
  if (!isfinite(norm)) {
    refuse(first, row, Refusal::value);
  } else if (type == NormType::fp16 && norm != 0.0F &&
             (norm >= half_overflow || norm <= half_rounds_to_zero)) {
    refuse(first, row, Refusal::norm);
  }
}

// The word of one quantizer. Calls on several streams share it: finish() of one may report a row of another.
class RefusalWord {
 public:
  RefusalWord() : word_(std::vector<unsigned long long>{no_refusal}) {}

  unsigned long long* data() const { return word_.data(); }

  // Waits for the stream; throws and clears the word if a row was refused.
  void finish(cudaStream_t stream) const {
    unsigned long long first = no_refusal;
    check(cudaMemcpyAsync(&first, word_.data(), sizeof first, cudaMemcpyDeviceToHost, stream),
          "copy from the device");
    check(cudaStreamSynchronize(stream), "work on the GPU");
    if (first == no_refusal) return;
    check(cudaMemsetAsync(word_.data(), 0xFF, sizeof first, stream), "clearing of device memory");
    check(cudaStreamSynchronize(stream), "work on the GPU");
    const auto reason = static_cast<Refusal>(first & ((1U << refusal_bits) - 1U));
    const std::string row = std::string(reason == Refusal::centroid ? "decode" : "encode") + ": row " +
                            std::to_string(first >> refusal_bits);
    switch (reason) {
      case Refusal::value:
        throw Error(row + " has a value that is not finite; valid: finite values");
      case Refusal::norm:
        throw Error(row +
                    " has a norm outside the range of a 16-bit norm (6e-8 to 65504); valid: such rows "
                    "with norm=fp32");
      case Refusal::residual:
        throw Error(row +
                    " has a residual whose norm is beyond the range of a 16-bit norm; valid: such rows "
                    "with norm=fp32");
      case Refusal::scale:
        throw Error(row +
                    " has a root mean square above the trellis code's scales; valid: such rows with a "
                    "larger scale_offset");
      case Refusal::transform:
        throw Error(row + " overflows float32 once transformed; valid: keys like those of the calibration");
      case Refusal::cost:
        throw Error(row + " has an error that overflows float32; valid: keys below 1e18");
      case Refusal::centroid:
        throw Error(row + " names a centroid beyond the last; valid: codes of this quantizer");
    }
  }

 private:
  Buffer<unsigned long long> word_;
};

}  // namespace rotorquant::device
