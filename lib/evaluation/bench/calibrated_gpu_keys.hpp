#pragma once
// The benchmark's operations with calibrated keys on a GPU: scores of query groups and attention, with rotary
// embeddings. Keys are fitted, adapted and encoded on the CPU.
#include <memory>
#include <string>

#include "evaluation/bench/gpu_checks.hpp"
#include "evaluation/calibration/fit.hpp"

namespace rotorquant::evaluation {

class CalibratedGpuKeys {
 public:
  // transforms: as GpuBenchRequest's.
  CalibratedGpuKeys(std::shared_ptr<GpuData> data, std::string transforms)
      : data_(std::move(data)), path_(std::move(transforms)) {}

  // Of the fitted quantizer `text`. Errors: operations and quantizers that have no device code.
  BenchOperation operation(const std::string& name, const std::string& text);

 private:
  std::shared_ptr<GpuData> data_;
  std::string path_;
  std::shared_ptr<const TransformSet> transforms_;  // made when first needed
};

}  // namespace rotorquant::evaluation
