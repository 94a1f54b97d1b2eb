#pragma once
// What a sweep measured: plain data, in a stable order, from which reports are aggregated and journals
// restored.
//
// A setting is one quantizer at one bit width (a row of the report, once per dataset). A cell is one setting
// with one seed on one (layer, KV head) of one dataset, averaged over the query heads of that KV head.
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rotorquant::evaluation {

// Stored bits by name: of a vector by kind ("index", "norm", "sign", ...; see rotorquant::field_kind_name) in
// layout order, or of a sequence's side data ("sinks", "window", "centre", ...) in the order in which they
// were met.
using BitsByField = std::vector<std::pair<std::string, std::int64_t>>;
// Adds to the entry of this name, which is made where there is none.
void add_bits(BitsByField& fields, const std::string& name, std::int64_t bits);

struct StoredSize {
  BitsByField fields;
  std::int64_t bits_per_vector = 0;
  double bits_per_value = 0.0;    // bits_per_vector / dim
  std::int64_t model_floats = 0;  // parameters kept once per model (rotations, sketches)
};

struct Setting {
  std::string
      label;  // as the user wrote it: "turboquant:rotation=hadamard", or "keys | values" where these differ
  std::string keys;    // specification of the key quantizer
  std::string values;  // and of the value quantizer
  int bits =
      0;  // the width that varies: of keys, or of values where that of keys is fixed; 16 for 16-bit formats
  std::int64_t sinks = 0;   // of tensors whose specification does not say
  bool calibrated = false;  // codes keys by fitted transforms
  StoredSize key_size;
  StoredSize value_size;
  // Of the key quantizer, where theory has something to say: E||u - u^||^2 for u uniform on the unit sphere,
  // integrated from the exact coordinate law, and the upper bound on it.
  std::optional<double> isotropic_nmse;
  std::optional<double> nmse_bound;
};

// How far a (layer, head)'s keys are from isotropic; see evaluation/statistics/isotropy.hpp.
struct DatasetSummary {
  std::string path;
  std::string sha256;
  std::string model;
  std::string source;
  std::vector<std::int64_t> layers;  // the layers evaluated, ascending
  std::int64_t num_query_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t value_dim = 0;
  std::int64_t num_tokens = 0;           // keys per head
  std::int64_t num_queries = 0;          // queries per head, 0 without queries
  bool isotropic = false;                // the gate's verdict over all evaluated heads
  double eigenvalue_spread_ratio = 0.0;  // mean over heads: data / matched random control (1 = isotropic)
  double kurtosis_ratio = 0.0;
};

struct Cell {
  std::int64_t dataset = 0;  // index into SweepResult::datasets
  std::int64_t setting = 0;  // index into SweepResult::settings
  std::uint64_t seed = 0;
  std::int64_t layer = 0;  // the model's own layer index
  std::int64_t kv_head = 0;
  std::vector<double> metrics;  // [metric_registry().size()], NaN where not available
  BitsByField side;             // stored beyond the codes' bits_per_vector: sinks, shifts; keys and values
  double encode_seconds = 0.0;  // keys and values
  double decode_seconds = 0.0;

  std::int64_t side_bits() const {
    std::int64_t bits = 0;
    for (const auto& [name, field_bits] : side) bits += field_bits;
    return bits;
  }
};

struct Skipped {
  std::string what;
  std::string why;
};

// A dump that transforms were fitted to.
struct FitSource {
  std::string name;
  std::string sha256;
};

struct SweepResult {
  std::vector<DatasetSummary> datasets;
  std::vector<Setting> settings;
  std::vector<std::uint64_t> seeds;
  // Ordered by dataset, setting, seed, layer, kv_head; complete.
  std::vector<Cell> cells;
  std::vector<Skipped> skipped;
  std::vector<FitSource> fit;  // what calibrated settings were fitted to
  double seconds = 0.0;        // wall time
};

}  // namespace rotorquant::evaluation
