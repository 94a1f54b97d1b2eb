#pragma once
// Synthetic dumps whose geometry is known.
//
// Every head draws a base of T unit-scale keys k and queries q and shows them through an invertible linear
// map A of its own and a mean m: key = A k + m, query = A^-T q. As <A^-T q, A k> = <q, k> and <query, m> is
// the same for all keys of a query, every profile has the attention of its base, and profiles differ only in
// what a quantizer sees.
//
//   profile      base keys                          map of keys
//   isotropic    uniform unit vectors               A = I, m = 0: all keys have norm 1
//   outliers     N(0, I/d)                          A diagonal: max(1, d/32) random channels times 12, the
//   others 1 anisotropic  N(0, I/d)                          A = Q diag(s) Q^T, Q Haar, s_j^2 ~ 1/(j+1) with
//   mean 1, and m in a
//                                                   random direction with |m|^2 = 3/2: 60% of the energy of
//                                                   the keys
//   one-hot      +-e_j, j uniform                   A = I, m = 0: all energy in one channel
//
// Values have the same law (drawn independently; never a mean). Query t points at a random key s <= t of its
// head's KV head: q = rho n_s + sqrt(1 - rho^2) u, n_s the direction of that base key, u a uniform unit
// vector, rho = min(0.9, 5 / sqrt(d)). With softmax_scale = sqrt(d) the scores of other keys are about N(0,
// 1) and that of s is about 5 (d >= 32): attention is neither flat nor a copy. For isotropic and one-hot
// profiles queries are unit vectors.
#include <cstdint>
#include <string>
#include <vector>

#include "evaluation/dump/element_type.hpp"
#include "rotorquant/core/parallel.hpp"

namespace rotorquant::evaluation {

enum class SynthProfile { isotropic, outliers, anisotropic, one_hot };

// The names of the profiles: "isotropic", "outliers", "anisotropic", "one-hot".
const std::vector<std::string>& synth_profile_names();
// An unknown name is a UsageError that names the nearest known one.
SynthProfile parse_synth_profile(const std::string& name);

struct SynthOptions {
  SynthProfile profile = SynthProfile::isotropic;
  std::int64_t layers = 2;
  std::int64_t kv_heads = 2;
  std::int64_t query_heads = 4;  // a multiple of kv_heads; 0 writes no queries
  std::int64_t tokens = 1024;
  std::int64_t head_dim = 128;
  std::uint64_t seed = 0;
  ElementType type = ElementType::float32;
};

// The tensors of one KV head of one layer.
struct SynthHead {
  std::vector<float> keys;                  // [T, d]
  std::vector<float> values;                // [T, d]
  std::vector<std::vector<float>> queries;  // [query_heads / kv_heads] of [T, d]
};

// Depends on (options, layer, kv_head) alone; with more tokens the first ones stay the same.
SynthHead synthesize_head(const SynthOptions& options, std::int64_t layer, std::int64_t kv_head);

// Writes the dump. The bytes depend on the options alone, not on the number of threads. Memory: the tensors
// of `context.threads` KV heads.
void write_synthetic_dump(const std::string& path, const SynthOptions& options, const Context& context);

}  // namespace rotorquant::evaluation
