#pragma once
// The coded keys (or values) of one head over one sequence: the first `sinks` tokens and the most recent ones
// in 16 bits, all others by a KeyMethod, and the side data of the sequence. What comes back is made from what
// is stored and from nothing else.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "rotorquant/cache/key_method.hpp"
#include "rotorquant/cache/rope.hpp"
#include "rotorquant/codes/codes.hpp"

namespace rotorquant {

// Which tokens of a sequence a cache keeps in 16 bits.
struct SixteenBitTokens {
  std::int64_t sinks = 0;  // the first ones
  // The most recent ones. With codes of single tokens: the last `window`, each coded when it leaves. With
  // codes of blocks: tokens wait until there are `window` of them, which then are coded together (KIVI's
  // residual), so that 0 to window - 1 are in 16 bits.
  std::int64_t window = 0;
};

class KeySequence {
 public:
  // `rope`: the model's angles; needed (with or without frequencies) by methods that code keys before RoPE.
  // Errors: negative numbers, and a window that is no multiple of the tokens of a code.
  KeySequence(std::shared_ptr<const KeyMethod> method, SixteenBitTokens sixteen_bits,
              std::shared_ptr<const Rope> rope = nullptr);
  KeySequence(std::shared_ptr<const KeyMethod> method, std::int64_t sinks,
              std::shared_ptr<const Rope> rope = nullptr)
      : KeySequence(std::move(method), SixteenBitTokens{sinks, 0}, std::move(rope)) {}

  std::int64_t size() const { return static_cast<std::int64_t>(positions_.size()); }
  std::int64_t dim() const { return method_->dim(); }
  // While the sequence holds `tokens`, those from min(sinks, tokens) to here are coded and later ones in 16
  // bits.
  std::int64_t coded_end(std::int64_t tokens) const;

  // What an append adds, ready to be committed to the sequence it was made for.
  class Addition;
  // keys [n, dim] after RoPE at positions [n], n more tokens. The first append decides the sequence's side
  // data: give it the whole prompt. With a window every key passes through 16 bits before it is coded, so
  // that codes do not depend on how tokens arrive. Errors: a value that is not finite or, where it is kept in
  // 16 bits, beyond fp16.
  Addition prepare(const Context& context, HostView<const float> keys,
                   std::span<const std::int64_t> positions) const;
  // Cannot fail: several sequences grow together or not at all.
  void commit(Addition addition);
  void append(const Context& context, HostView<const float> keys, std::span<const std::int64_t> positions);
  // keys [size(), dim] after RoPE.
  void decode(const Context& context, HostView<float> keys) const { decode_range(context, 0, keys); }
  // scores(i, t) = <queries(i), decoded key t>; queries [m, dim], scores [m, size()]. From the codes where
  // each is of one key coded after RoPE; otherwise keys are decoded in blocks.
  void score(const Context& context, HostView<const float> queries, HostView<float> scores) const;
  // sums(i) = sum over t of weights(i, t) decoded key t; weights [m, size()], sums [m, dim].
  void weighted_sum(const Context& context, HostView<const float> weights, HostView<float> sums) const;

  // Bits of the codes, of the tokens in 16 bits, and of the method's side data.
  std::int64_t code_bits() const { return codes_ ? 8 * codes_->bytes() : 0; }
  std::int64_t sink_bits() const { return static_cast<std::int64_t>(16 * sink_keys_.size()); }
  std::int64_t window_bits() const { return static_cast<std::int64_t>(16 * recent_keys_.size()); }
  const std::vector<SideField>& side() const { return sequence_.side; }
  std::int64_t side_bits() const;
  const CodeBuffer* codes() const { return codes_ ? &*codes_ : nullptr; }

 private:
  std::int64_t num_sinks() const { return static_cast<std::int64_t>(sink_keys_.size()) / dim(); }
  std::int64_t num_recent() const { return static_cast<std::int64_t>(recent_keys_.size()) / dim(); }
  // Codes can be scored and summed as they are.
  bool works_on_codes() const { return !method_->before_rope() && method_->tokens_per_code() == 1; }
  CodeBuffer encode(const Context& context, const SequenceQuantizer& sequence,
                    HostView<const float> keys) const;
  void decode_codes(const Context& context, std::int64_t first_coded, HostView<float> keys) const;
  // Tokens first_token .. first_token + keys.rows.
  void decode_range(const Context& context, std::int64_t first_token, HostView<float> keys) const;
  // body(first_token, keys) for decoded keys in blocks.
  template <typename Body>
  void for_decoded_blocks(const Context& context, const Body& body) const;

  std::shared_ptr<const KeyMethod> method_;
  SixteenBitTokens sixteen_bits_;
  std::shared_ptr<const Rope> rope_;
  SequenceQuantizer sequence_;
  std::vector<std::uint16_t> sink_keys_;    // [min(sinks, size()), dim] fp16, after RoPE
  std::vector<std::uint16_t> recent_keys_;  // [size() - coded_end(size()), dim] fp16, after RoPE
  std::optional<CodeBuffer> codes_;         // of the tokens between, from the first append on
  std::vector<std::int64_t> positions_;     // [size()], the caller's own: not charged
};

class KeySequence::Addition {
 private:
  friend class KeySequence;
  std::optional<SequenceQuantizer> opened;  // by the first append
  std::vector<std::uint16_t> sinks;         // more of them
  std::optional<CodeBuffer> codes;          // more of them
  std::vector<std::uint16_t> recent;        // in place of those before
  std::vector<std::int64_t> positions;      // more of them
};

}  // namespace rotorquant
