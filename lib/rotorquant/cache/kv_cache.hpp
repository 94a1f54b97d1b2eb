#pragma once
// A key/value cache of one attention head that holds codes only: keys coded one way, values another.
#include <cstdint>
#include <memory>

#include "rotorquant/cache/key_sequence.hpp"
#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

// By convention keys use a `-prod` quantizer with seed s and values the plain one with seed s + 100.
inline constexpr std::uint64_t value_seed_offset = 100;

class KVCache {
 public:
  // Every token by a quantizer of vectors.
  KVCache(std::shared_ptr<const Quantizer> keys, std::shared_ptr<const Quantizer> values);
  // Empty sequences that say how tokens are coded: sinks, a recent window, centering, calibrated keys.
  KVCache(KeySequence keys, KeySequence values);

  std::int64_t size() const { return keys_.size(); }
  // Bytes of everything stored, as counted from the buffers: codes, tokens in 16 bits, side data of the
  // sequences.
  std::int64_t bytes() const;

  // keys [n, head_dim] after RoPE, values [n, value_dim]: n more tokens, at positions size(), size() + 1, ...
  // Where side data are measured, the first append decides them: give it the whole prompt. A row that is
  // refused leaves the cache as it was.
  void append(const Context& context, HostView<const float> keys, HostView<const float> values);
  // scores(i, t) = estimate of <queries(i), key(t)>, unscaled; queries [m, head_dim], scores [m, size()].
  void attention_scores(const Context& context, HostView<const float> queries, HostView<float> scores) const;
  // Dequantized values, [size(), value_dim].
  void values(const Context& context, HostView<float> out) const;
  // softmax(softmax_scale * scores) values, from the codes; every query sees every token. outputs [m,
  // value_dim].
  void attend(const Context& context, HostView<const float> queries, float softmax_scale,
              HostView<float> outputs) const;

 private:
  KeySequence keys_;
  KeySequence values_;
};

}  // namespace rotorquant
