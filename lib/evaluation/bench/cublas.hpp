#pragma once
// cuBLAS as a baseline: a dense rotation alone, y = R x for each row, without quantization. The library is
// looked for when it is asked for, so that the tool starts without it.
#include <cstdint>

#include "rotorquant/core/element_type.hpp"

namespace rotorquant::evaluation {

class CublasRotation {
 public:
  // On the GPU that is current. Errors: no cuBLAS on this machine, or it does not start.
  CublasRotation();
  ~CublasRotation();
  CublasRotation(const CublasRotation&) = delete;
  CublasRotation& operator=(const CublasRotation&) = delete;

  // matrix [dim, dim] row-major, x and y [rows, dim], all of `type` in device memory; sums in fp32. On the
  // default stream. rows and dim below 2^31. Errors: a call that failed.
  void apply(const void* matrix, const void* x, void* y, rotorquant::ElementType type, std::int64_t rows,
             std::int64_t dim) const;

 private:
  struct Library;
  const Library& library_;
  void* handle_ = nullptr;
};

}  // namespace rotorquant::evaluation
