#pragma once
// Keys and values as a quantized cache gives them back: of one head, and of a whole dump.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "evaluation/dump/dump.hpp"
#include "evaluation/metrics/attention.hpp"
#include "evaluation/sweep/tensor_method.hpp"
#include "rotorquant/cache/rope.hpp"
#include "rotorquant/core/parallel.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

struct Reconstruction {
  std::vector<float> data;    // [T, dim] as the cache holds it after the last token
  std::vector<float> recent;  // [T, dim] as the cache's window holds each token; empty without a window
  std::vector<std::int64_t> coded_end;  // [T + 1], see SeenTensor; empty without a window
  BitsByField side;  // stored beyond the bits of every vector that the method's size states
  double encode_seconds = 0.0;
  double decode_seconds = 0.0;
};

// What queries see of it.
SeenTensor seen_tensor(const Reconstruction& reconstruction, std::int64_t dim);

// Codes one tensor x [T, dim] of one head as a cache would and reads it back from what is stored. rope: null
// unless calibrated keys need it.
Reconstruction reconstruct_tensor(const TensorMethod& method, std::int64_t layer, std::int64_t kv_head,
                                  HostView<const float> x, std::span<const std::int64_t> positions,
                                  const std::shared_ptr<const Rope>& rope);

struct ReconstructRequest {
  std::string quantizer;  // for keys and values; or apart:
  std::string keys;
  std::string values;
  std::int64_t bits = 3;
  std::uint64_t seed = 0;
  std::int64_t sinks = 0;
  std::string transforms;
};

// Writes the dump with reconstructed keys and values, and everything else as it is, in float32: exactly what
// decoding gives.
void write_reconstruction(const Dump& dump, const ReconstructRequest& request, const std::string& path,
                          const Context& context);

}  // namespace rotorquant::evaluation
