#pragma once
// The coded keys (or values) of one head over one sequence: the first `sinks` tokens in 16 bits, all others by a
// KeyMethod, and the side data of the sequence. What comes back is made from what is stored and from nothing
// else.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "rotorquant/cache/key_method.hpp"
#include "rotorquant/cache/rope.hpp"
#include "rotorquant/codes/codes.hpp"

namespace rotorquant {

class KeySequence {
 public:
  // `rope`: the model's angles; needed (with or without frequencies) by methods that code keys before RoPE.
  KeySequence(std::shared_ptr<const KeyMethod> method, std::int64_t sinks,
              std::shared_ptr<const Rope> rope = nullptr);

  std::int64_t size() const { return static_cast<std::int64_t>(positions_.size()); }
  std::int64_t dim() const { return method_->dim(); }

  // keys [n, dim] after RoPE at positions [n], n more tokens. The first append decides the sequence's side
  // data: give it the whole prompt. Errors: a value that is not finite or, in a sink, beyond fp16.
  void append(const Context& context, HostView<const float> keys, std::span<const std::int64_t> positions);
  // keys [size(), dim] after RoPE.
  void decode(const Context& context, HostView<float> keys) const { decode_range(context, 0, keys); }
  // scores(i, t) = <queries(i), decoded key t>; queries [m, dim], scores [m, size()]. From the codes where keys are coded after
  // RoPE; before it every key turns by its own angle, and is decoded in blocks.
  void score(const Context& context, HostView<const float> queries, HostView<float> scores) const;
  // sums(i) = sum over t of weights(i, t) decoded key t; weights [m, size()], sums [m, dim].
  void weighted_sum(const Context& context, HostView<const float> weights, HostView<float> sums) const;
  // Keeps the first `count` tokens; with 0, also forgets the side data, which the next append decides anew.
  void truncate(std::int64_t count);

  // Bits of the codes, of the sinks, and of the method's side data.
  std::int64_t code_bits() const { return codes_ ? 8 * codes_->bytes() : 0; }
  std::int64_t sink_bits() const { return static_cast<std::int64_t>(16 * sink_keys_.size()); }
  const std::vector<SideField>& side() const { return sequence_.side; }
  std::int64_t side_bits() const;
  const CodeBuffer* codes() const { return codes_ ? &*codes_ : nullptr; }

 private:
  std::int64_t num_sinks() const { return static_cast<std::int64_t>(sink_keys_.size()) / dim(); }
  std::vector<float> decoded_sinks() const;  // [num_sinks(), dim]
  // Tokens first_token .. first_token + keys.rows.
  void decode_range(const Context& context, std::int64_t first_token, HostView<float> keys) const;

  std::shared_ptr<const KeyMethod> method_;
  std::int64_t sinks_;
  std::shared_ptr<const Rope> rope_;
  SequenceQuantizer sequence_;
  std::vector<std::uint16_t> sink_keys_;  // [min(sinks, size()), dim] fp16, after RoPE
  std::optional<CodeBuffer> codes_;       // of tokens sinks.. , from the first append on
  std::vector<std::int64_t> positions_;   // [size()], the caller's own: not charged
};

}  // namespace rotorquant
