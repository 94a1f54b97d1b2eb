#pragma once
// The benchmark's operations with calibrated keys on a GPU. Keys are fitted and adapted on the CPU; scores of
// query groups and attention, with rotary embeddings, take keys that it encoded.
#include <memory>
#include <string>

#include "evaluation/bench/fitted_quantizer.hpp"
#include "evaluation/bench/gpu_checks.hpp"
#include "evaluation/calibration/fit.hpp"
#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant::evaluation {

class CalibratedGpuKeys {
 public:
  CalibratedGpuKeys(std::shared_ptr<GpuData> data, BenchTransforms transforms)
      : data_(std::move(data)), from_(std::move(transforms)) {}

  // The fitted quantizer `text`. Errors: others than rotorquant-calibrated.
  std::shared_ptr<const CalibratedCodec> codec(const std::string& text);
  // Scores of query groups, or attention. Errors: codes without such kernels.
  BenchOperation operation(const std::string& name, const std::string& text);

 private:
  std::shared_ptr<GpuData> data_;
  BenchTransforms from_;
  std::shared_ptr<const TransformSet> transforms_;  // made when first needed
};

}  // namespace rotorquant::evaluation
