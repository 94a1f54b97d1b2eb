#pragma once
// A key/value cache of one attention head that holds codes only: keys by one quantizer, values by another.
#include <cstdint>
#include <memory>

#include "rotorquant/codes/codes.hpp"
#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

// By convention keys use a `-prod` quantizer with seed s and values the plain one with seed s + 100.
inline constexpr std::uint64_t value_seed_offset = 100;

class KVCache {
 public:
  KVCache(std::shared_ptr<const Quantizer> keys, std::shared_ptr<const Quantizer> values);

  std::int64_t size() const { return keys_.size(); }
  // Bytes of all stored codes, as counted from the buffers.
  std::int64_t bytes() const { return keys_.bytes() + values_.bytes(); }

  // keys [n, head_dim], values [n, value_dim]: n more tokens.
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
  std::shared_ptr<const Quantizer> key_quantizer_;
  std::shared_ptr<const Quantizer> value_quantizer_;
  CodeBuffer keys_;
  CodeBuffer values_;
};

}  // namespace rotorquant
