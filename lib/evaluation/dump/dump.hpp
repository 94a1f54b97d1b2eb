#pragma once
// Captured keys, values and queries of one sequence: the HDF5 format "rotorquant-kv" version 1, and other
// people's files through axis maps. Tensors are read one (layer, head) slab at a time, so that a dump may
// exceed memory.
//
//   /                      attributes: see DumpInfo
//   /token_ids [T], /positions [T], /rope_inv_freq [rotary_dim / 2]      optional
//   /layers/NNN/key [H_kv, T, d], value [H_kv, T, d_v]                   NNN: the model's own layer index
//   /layers/NNN/query [H_q, T_q, d]                                      optional, for all layers or none
//   /layers/NNN/query_positions [T_q] (or /query_positions)              needed when T_q != T, the same in
//   all layers
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/dump/axis_map.hpp"

namespace rotorquant::evaluation {

struct DumpInfo {
  std::string model;
  std::string source;
  std::int64_t num_layers = 0;  // of the model; `layers` lists those in the file
  std::int64_t num_query_heads = 0;
  std::int64_t num_kv_heads =
      0;  // divides num_query_heads: query head h reads KV head h / (num_query_heads / num_kv_heads)
  std::int64_t head_dim = 0;  // of keys and queries
  std::int64_t value_dim = 0;
  std::int64_t num_tokens = 0;       // keys of each head, T
  std::int64_t num_queries = 0;      // queries of each head, T_q; 0 without queries
  std::string no_queries_reason;     // why num_queries is 0
  std::string rope_stage = "none";   // post | pre | none: keys as cached after or before RoPE
  std::string rope_layout = "half";  // half | interleaved: the channels that RoPE turns together
  double rope_theta = 0.0;           // base of the inverse frequencies; 0 when unknown
  std::int64_t rotary_dim = 0;       // leading channels that RoPE turns
  double softmax_scale = 0.0;
  bool causal = true;
  std::vector<std::int64_t> layers;  // the model's own indices, ascending
  bool has_positions = false;
  bool has_rope_inv_freq = false;
  bool has_token_ids = false;
  std::string element_type;  // of the first layer's keys: "float16", "bfloat16 (uint16)", ...
};

struct DumpOptions {
  std::vector<AxisMap> maps = {};               // empty: the file is in our format
  std::optional<std::int64_t> max_tokens = {};  // keep the first N tokens and the queries at these
  std::optional<double> softmax_scale =
      {};                           // in place of the file's; mapped files default to 1 / sqrt(head_dim)
  std::optional<bool> causal = {};  // in place of the file's; mapped files default to true
};

class Dump {
 public:
  // Checks everything that needs no reading of tensors: an Error names the first problem and counts the
  // others.
  static Dump open(const std::string& path, const DumpOptions& options = {});
  Dump(Dump&&) noexcept;
  Dump& operator=(Dump&&) noexcept;
  ~Dump();

  const std::string& path() const;
  const DumpInfo& info() const;  // as restricted by max_tokens

  // One head of one layer as float32; `layer` is one of info().layers. Any thread may read at any time. A
  // value that is not finite in float32 is an Error that names layer, head, token and channel.
  std::vector<float> read_key(std::int64_t layer, std::int64_t kv_head) const;       // [T, head_dim]
  std::vector<float> read_value(std::int64_t layer, std::int64_t kv_head) const;     // [T, value_dim]
  std::vector<float> read_query(std::int64_t layer, std::int64_t query_head) const;  // [T_q, head_dim]

  // The token of each query, an index into the keys, [T_q]: with a causal mask query i sees keys
  // 0..query_positions()[i].
  const std::vector<std::int64_t>& query_positions() const;
  // What RoPE was applied with, [T]; 0..T-1 when the file does not say.
  const std::vector<std::int64_t>& positions() const;
  const std::vector<std::int64_t>& token_ids() const;  // [T], or empty
  // Angle of channel pair j at position p is p * rope_inv_freq()[j], [rotary_dim / 2]. Where the file does
  // not say, rope_theta^(-2j / rotary_dim); empty when rope_stage is "none".
  const std::vector<double>& rope_inv_freq() const;

  std::string sha256() const;  // of the file's bytes, 64 hexadecimal digits

 private:
  struct State;
  explicit Dump(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace rotorquant::evaluation
