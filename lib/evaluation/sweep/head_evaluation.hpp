#pragma once
// One KV head of a dump, in memory, and the cells of a sweep on it.
//
// What cells have in common is computed once: the attention of the exact tensors for all of them, and what a
// quantizer without a seed makes of the tensors for all seeds of its setting.
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "evaluation/dump/dump.hpp"
#include "evaluation/metrics/attention.hpp"
#include "evaluation/metrics/device/device_metrics.hpp"
#include "evaluation/metrics/rounded_attention.hpp"
#include "evaluation/sweep/reconstruct.hpp"
#include "evaluation/sweep/results.hpp"
#include "evaluation/sweep/settings.hpp"
#include "rotorquant/cache/rope.hpp"

namespace rotorquant::evaluation {

struct HeadAddress {
  std::int64_t layer = 0;
  std::int64_t kv_head = 0;
};

struct HeadOptions {
  std::int64_t min_context = 0;  // queries with fewer earlier keys are left out
  bool exact_metrics = false;    // all of the metrics in float64
  std::int64_t num_settings = 0;
  std::int64_t reference_bytes = default_reference_bytes;
  Context context = {};                // of the preparation of a head
  const DeviceMetrics* gpu = nullptr;  // computes metrics unless they are exact; null: the CPU does
};

class HeadEvaluation {
 public:
  // The dump must outlive it.
  HeadEvaluation(const Dump& dump, HeadAddress address, const HeadOptions& options);
  HeadEvaluation(const HeadEvaluation&) = delete;
  HeadEvaluation& operator=(const HeadEvaluation&) = delete;

  // Fills in metrics, side bits and times of `cell`, whose other fields are set; any number of threads at
  // once. rope: null unless calibrated keys need it. Errors name the tensor.
  void evaluate(const MethodPair& methods, const std::shared_ptr<const Rope>& rope, Cell& cell);

 private:
  // What all seeds of a setting share, where its method has no seed.
  struct Shared {
    std::once_flag once;
    std::shared_ptr<const Reconstruction> reconstruction;
  };

  std::shared_ptr<const Reconstruction> reconstruct(const TensorMethod& method, HostView<const float> x,
                                                    const std::shared_ptr<const Rope>& rope,
                                                    Shared& shared) const;
  std::vector<double> metrics(const SeenTensor& keys, const SeenTensor& values) const;

  const Dump& dump_;
  HeadAddress address_;
  const DeviceMetrics* gpu_;
  std::vector<float> keys_;                  // [T, head_dim]
  std::vector<float> values_;                // [T, value_dim]
  std::vector<std::vector<float>> queries_;  // per query head of the group: [T_q, head_dim]
  HeadTensors tensors_;                      // views of the above
  std::optional<AttentionReference> exact_;  // where metrics are
  std::optional<RoundedReference> rounded_;  // otherwise
  DeviceMetrics::HeadPointer on_gpu_;        // where the GPU computes them
  std::vector<Shared> shared_keys_;          // [settings]
  std::vector<Shared> shared_values_;        // [settings]
};

}  // namespace rotorquant::evaluation
