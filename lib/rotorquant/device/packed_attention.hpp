#pragma once
// Attention of one query token a head over a cache in device memory: softmax(scale q k) v, from codes alone.
// Keys are never rotated back, nor values before they are summed:
//   <q, k> = s <R q, k^>,   sum_t w_t v_t = R'^T sum_t (w_t s'_t) v^_t.
#include <memory>
#include <span>

#include "rotorquant/cache/rope.hpp"
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant {

// Heads of all sequences lie one after the other, each with room for `capacity` tokens of which the first
// `tokens` are attended to. queries_per_head query heads share the keys and values of one.
struct AttentionSize {
  std::int64_t heads = 0;             // 1..65535
  std::int64_t queries_per_head = 1;  // 1..8
  std::int64_t tokens = 0;            // 1..capacity
  std::int64_t capacity = 0;          // a multiple of 8
  float scale = 1.0F;
};

class PackedAttention {
 public:
  virtual ~PackedAttention() = default;
  // queries, outputs [heads * queries_per_head, dim]; codes hold heads * capacity vectors.
  virtual void attend(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
                      DeviceView<const float> queries, ConstCodes<Space::cuda> keys,
                      ConstCodes<Space::cuda> values, DeviceView<float> outputs) const = 0;
};

// Keys and values of two quantizers of the same dimension, on one GPU. Straight from codes of 64 or 128
// coordinates where values are scalar codes of 2 to 4 bits and keys too, of that or another width, or in two
// stages of 2 to 4 bits with as many signs as coordinates (codebooks symmetric about 0, norms in fp16), and
// where both are trellis codes of the same width (memory 5, 2 or 3 bits); any other pair is decoded part by
// part in 64 MiB of the workspace. Errors: those of make_device_quantizer; different dimensions.
std::unique_ptr<PackedAttention> make_packed_attention(std::shared_ptr<const Quantizer> keys,
                                                       std::shared_ptr<const Quantizer> values, int gpu);

// Scores of one token's queries and the keys of a cache.
class KeyScores {
 public:
  virtual ~KeyScores() = default;
  // queries [heads * queries_per_head, dim]; codes hold heads * capacity vectors; scores [heads *
  // queries_per_head, capacity], of which the first `tokens` of each row are written: inner products, without
  // the size's scale.
  virtual void score(DeviceStream stream, const AttentionSize& size, DeviceView<const float> queries,
                     ConstCodes<Space::cuda> keys, DeviceView<float> scores) const = 0;
};

// Keys of calibrated codecs, coded before RoPE: token t of a head is at position t, and queries come after
// RoPE. Head h has the codec keys[h mod keys.size()]. Keys are decoded, transformed and turned on their way
// to their scores, in fp16. Keys: scalar levels, or trellis codes of memory 5 with six or more coordinates
// with bits; at most 4 bits, 64 or 128 coordinates, scales that span 26 octaves or less. GPUs of compute
// capability 9.0. Errors: others.
std::unique_ptr<KeyScores> make_calibrated_scores(
    std::span<const std::shared_ptr<const CalibratedCodec>> keys, const Rope& rope, int gpu);

// Attention with such keys. Values: trellis codes of memory 5, 2 or 3 bits and as many coordinates. Errors:
// others.
std::unique_ptr<PackedAttention> make_calibrated_attention(
    std::span<const std::shared_ptr<const CalibratedCodec>> keys, const Rope& rope,
    std::shared_ptr<const Quantizer> values, int gpu);

// The baseline: the same kernel over fp16 keys and values [heads, capacity, dim], dim 64 or 128. Runs on the
// current GPU.
void attend_half(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
                 DeviceView<const float> queries, const void* keys, const void* values,
                 DeviceView<float> outputs);

}  // namespace rotorquant
