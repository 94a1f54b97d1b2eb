#pragma once
// What a quantizer will find in a dump: for every (layer, KV head) the numbers that decide which methods can
// differ.
#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "evaluation/dump/dump.hpp"
#include "evaluation/dump/validator.hpp"
#include "evaluation/statistics/isotropy.hpp"
#include "rotorquant/core/parallel.hpp"

namespace rotorquant::evaluation {

// Of the rows x_t of one head [T, d]; sums in float64.
struct TensorStatistics {
  double norm_min = 0.0;
  double norm_median = 0.0;
  double norm_max = 0.0;
  // A channel's peak is max_t |x_tc|. The greatest peak over the median one; infinite when the median is 0
  // and the greatest is not, 1 when all are 0.
  double outlier_ratio = 0.0;
  std::vector<std::int64_t> top_channels;  // at most three, greatest peak first
  // |mean of x|^2 / mean of |x|^2, in [0, 1]: what subtracting the channel mean removes. 0 for zero vectors.
  double mean_energy_share = 0.0;
  // exp of the entropy of the covariance's eigenvalues over their sum (Roy and Vetterli, "The effective
  // rank", 2007), in [1, d]; 0 when the rows do not vary.
  double effective_rank = 0.0;
  // Mean over non-zero rows of d sum_c x_c^4 / (sum_c x_c^2)^2, in [1, d]: 3d / (d + 2) for a uniform
  // direction.
  double kurtosis = 0.0;
};

TensorStatistics measure_tensor(HostView<const float> rows);

struct HeadInspection {
  std::int64_t layer = 0;
  std::int64_t kv_head = 0;
  TensorStatistics key = {};
  TensorStatistics value = {};
  IsotropyReport isotropy = {};  // of the keys
};

struct Inspection {
  std::string path;
  std::string sha256;
  std::int64_t file_bytes = 0;
  DumpInfo info;
  std::vector<HeadInspection> heads;  // ordered by layer, head
  IsotropyReport isotropy;            // pooled over the heads
};

// Layers and KV heads as the dump numbers them.
Inspection inspect_dump(const Dump& dump, const std::vector<std::int64_t>& layers,
                        const std::vector<std::int64_t>& kv_heads, const Context& context);

std::string inspection_text(const Inspection& inspection);  // lines of an aligned table
nlohmann::ordered_json inspection_json(const Inspection& inspection);

// "PATH: message" lines, or one line that says that the dump is valid.
std::string problems_text(const std::string& path, const std::vector<Problem>& problems);
nlohmann::ordered_json problems_json(const std::string& path, const std::vector<Problem>& problems);

}  // namespace rotorquant::evaluation
