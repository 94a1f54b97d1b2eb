#pragma once
// The metrics of rounded_attention.hpp on a GPU, to the same bits: integer products are exact in any order,
// everything else is computed in the order of the CPU's lanes and without fused multiply-adds.
#include <memory>
#include <optional>
#include <vector>

#include "evaluation/metrics/rounded_attention.hpp"

namespace rotorquant::evaluation {

// Metrics on one GPU, for any number of threads at once.
class DeviceMetrics {
 public:
  // What the cells of one KV head share, in GPU memory.
  class Head;
  struct HeadDeleter {
    void operator()(Head* head) const;
  };
  using HeadPointer = std::unique_ptr<Head, HeadDeleter>;

  // Error: no such GPU.
  explicit DeviceMetrics(int gpu);
  ~DeviceMetrics();
  DeviceMetrics(const DeviceMetrics&) = delete;
  DeviceMetrics& operator=(const DeviceMetrics&) = delete;

  // `reference` must outlive the head. Null where the GPU has no room for its rows (10 bytes a query and key,
  // and 6 for each of the cells in work), or where it has no rows.
  HeadPointer upload(const RoundedReference& reference, const Context& context = {}) const;

  // As evaluate_cell. Nothing for what the CPU alone computes: tensors with a window or whose errors are not
  // finite, and where others have taken the GPU's memory meanwhile. Errors: a failed kernel, which yields no
  // numbers.
  std::optional<std::vector<double>> evaluate(const Head& head, const SeenTensor& keys,
                                              const SeenTensor& values) const;

 private:
  class Workspaces;
  int gpu_;
  std::unique_ptr<Workspaces> workspaces_;
};

}  // namespace rotorquant::evaluation
