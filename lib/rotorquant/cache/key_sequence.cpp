#include "rotorquant/cache/key_sequence.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant {
namespace {

// Keys decoded at a time where they are not scored or summed from their codes.
constexpr std::int64_t tokens_per_block = 256;

// keys [n, dim] in 16 bits; `first_token` is the place of keys(0) in the sequence, for messages.
std::vector<std::uint16_t> to_halves(HostView<const float> keys, std::int64_t first_token) {
  std::vector<std::uint16_t> halves(static_cast<std::size_t>(keys.size()));
  for (std::int64_t i = 0; i < keys.size(); ++i) {
    const std::uint16_t half = float_to_half(keys.data[i]);
    if (!std::isfinite(half_to_float(half))) {
      throw Error("append: token " + std::to_string(first_token + i / keys.cols) + ", coordinate " +
                  std::to_string(i % keys.cols) + " is " + std::to_string(keys.data[i]) +
                  "; valid: finite 16-bit values, this token is kept in 16 bits");
    }
    halves[static_cast<std::size_t>(i)] = half;
  }
  return halves;
}

std::vector<float> to_floats(std::span<const std::uint16_t> halves) {
  std::vector<float> values;
  values.reserve(halves.size());
  for (const std::uint16_t half : halves) values.push_back(half_to_float(half));
  return values;
}

}  // namespace

KeySequence::KeySequence(std::shared_ptr<const KeyMethod> method, SixteenBitTokens sixteen_bits,
                         std::shared_ptr<const Rope> rope)
    : method_(std::move(method)), sixteen_bits_(sixteen_bits), rope_(std::move(rope)) {
  const auto& [sinks, window] = sixteen_bits_;
  if (sinks < 0) throw UsageError("sinks = " + std::to_string(sinks) + "; valid: 0 or more");
  if (window < 0) throw UsageError("window = " + std::to_string(window) + "; valid: 0 or more");
  const std::int64_t block = method_->tokens_per_code();
  if (block > 1 && (window < block || window % block != 0)) {
    throw UsageError("window = " + std::to_string(window) + "; valid: multiples of the " +
                     std::to_string(block) + " tokens that are coded together");
  }
  if (method_->before_rope() && rope_ == nullptr) {
    throw Error(
        "keys are to be coded before RoPE, but the model's rope_inv_freq is not known; valid: a dump with "
        "rope_inv_freq and positions");
  }
  if (rope_ != nullptr && rope_->rotary_dim() > method_->dim()) {
    throw Error("rope_inv_freq has " + std::to_string(rope_->inv_freq.size()) +
                " values; valid: at most half of head_dim " + std::to_string(method_->dim()));
  }
}

std::int64_t KeySequence::coded_end(std::int64_t tokens) const {
  const auto& [sinks, window] = sixteen_bits_;
  const std::int64_t others = std::max(std::int64_t{0}, tokens - sinks);
  const std::int64_t coded =
      method_->tokens_per_code() > 1 ? others / window * window : std::max(std::int64_t{0}, others - window);
  return std::min(sinks, tokens) + coded;
}

KeySequence::Addition KeySequence::prepare(const Context& context, HostView<const float> keys,
                                           std::span<const std::int64_t> positions) const {
  if (keys.cols != dim() || keys.rows != static_cast<std::int64_t>(positions.size())) {
    throw Error("append: keys are " + std::to_string(keys.rows) + " x " + std::to_string(keys.cols) +
                " with " + std::to_string(positions.size()) +
                " positions; valid: as many positions as keys of head_dim " + std::to_string(dim()));
  }
  Addition addition;
  if (keys.rows == 0) return addition;
  addition.positions.assign(positions.begin(), positions.end());
  const std::int64_t sinks = std::clamp(sixteen_bits_.sinks - size(), std::int64_t{0}, keys.rows);
  addition.sinks = to_halves(keys.row_range(0, sinks), size());

  const HostView<const float> added = keys.row_range(sinks, keys.rows - sinks);
  std::vector<std::uint16_t> halves;
  if (sixteen_bits_.window > 0) halves = to_halves(added, size() + sinks);
  // Keys that are not coded yet: those of the window, then the new ones. They are copied where they change
  // before they are coded.
  const auto copy_of_waiting = [&] {
    std::vector<float> copy = to_floats(recent_keys_);
    const std::vector<float> rounded = to_floats(halves);
    const HostView<const float> fresh =
        sixteen_bits_.window > 0 ? HostView<const float>{rounded.data(), added.rows, dim()} : added;
    copy.insert(copy.end(), fresh.data, fresh.data + fresh.size());
    return copy;
  };
  const bool changed = sixteen_bits_.window > 0 || method_->before_rope();
  std::vector<float> waiting;
  if (changed) waiting = copy_of_waiting();

  if (!codes_) {
    std::vector<float> first;
    if (changed) {
      first.assign(keys.data, keys.data + sinks * dim());
      first.insert(first.end(), waiting.begin(), waiting.end());
    }
    if (method_->before_rope()) RopeTable(*rope_, positions).remove({first.data(), keys.rows, dim()});
    addition.opened =
        method_->open(changed ? HostView<const float>{first.data(), keys.rows, dim()} : keys, sinks);
  }
  const SequenceQuantizer& sequence = codes_ ? sequence_ : *addition.opened;
  if (!changed && !sequence.centre.empty()) waiting = copy_of_waiting();
  const std::int64_t begin = std::max(coded_end(size()), std::min(sixteen_bits_.sinks, size() + keys.rows));
  const std::int64_t coded = coded_end(size() + keys.rows) - begin;
  const HostView<float> leaving{waiting.data(), waiting.empty() ? 0 : coded, dim()};
  if (method_->before_rope()) {
    std::vector<std::int64_t> all(positions_.begin() + std::min(begin, size()), positions_.end());
    all.insert(all.end(), positions.begin() + sinks, positions.end());
    RopeTable(*rope_, std::span(all).first(static_cast<std::size_t>(coded))).remove(leaving);
  }
  for (std::int64_t i = 0; i < leaving.size() && !sequence.centre.empty(); ++i)
    leaving.data[i] -= sequence.centre[static_cast<std::size_t>(i % dim())];
  addition.codes = encode(context, sequence, waiting.empty() ? added : HostView<const float>(leaving));
  if (sixteen_bits_.window > 0) {
    addition.recent = recent_keys_;
    addition.recent.insert(addition.recent.end(), halves.begin(), halves.end());
    addition.recent.erase(addition.recent.begin(), addition.recent.begin() + coded * dim());
  }
  return addition;
}

CodeBuffer KeySequence::encode(const Context& context, const SequenceQuantizer& sequence,
                               HostView<const float> keys) const {
  const std::int64_t block = method_->tokens_per_code();
  CodeBuffer codes(method_->layout(), keys.rows / block);
  sequence.quantizer->encode(context, {keys.data, keys.rows / block, block * dim()}, codes.view());
  return codes;
}

void KeySequence::commit(Addition addition) {
  if (addition.positions.empty()) return;
  if (addition.opened) {
    sequence_ = std::move(*addition.opened);
    codes_ = std::move(addition.codes);
  } else {
    codes_->append(*addition.codes);
  }
  sink_keys_.insert(sink_keys_.end(), addition.sinks.begin(), addition.sinks.end());
  recent_keys_ = std::move(addition.recent);
  positions_.insert(positions_.end(), addition.positions.begin(), addition.positions.end());
}

void KeySequence::append(const Context& context, HostView<const float> keys,
                         std::span<const std::int64_t> positions) {
  commit(prepare(context, keys, positions));
}

// Coded tokens first_coded .. first_coded + keys.rows, counted from the first that is no sink.
void KeySequence::decode_codes(const Context& context, std::int64_t first_coded, HostView<float> keys) const {
  const std::int64_t block = method_->tokens_per_code();
  const std::int64_t first_code = first_coded / block;
  const std::int64_t last_code = (first_coded + keys.rows + block - 1) / block;
  ConstCodes<Space::cpu> codes = codes_->view();
  for (std::size_t a = 0; a < method_->layout().arrays.size(); ++a) {
    codes.arrays[a] += first_code * method_->layout().arrays[a].bytes_per_vector();
  }
  codes.count = last_code - first_code;
  if (block == 1) {
    sequence_.quantizer->decode(context, codes, keys);
  } else {
    std::vector<float> blocks(static_cast<std::size_t>(codes.count * block * dim()));
    sequence_.quantizer->decode(context, codes, {blocks.data(), codes.count, block * dim()});
    std::copy_n(blocks.begin() + (first_coded - first_code * block) * dim(), keys.size(), keys.data);
  }
  for (std::int64_t i = 0; i < keys.size() && !sequence_.centre.empty(); ++i)
    keys.data[i] += sequence_.centre[static_cast<std::size_t>(i % dim())];
}

void KeySequence::decode_range(const Context& context, std::int64_t first_token, HostView<float> keys) const {
  const std::int64_t last_token = first_token + keys.rows;
  const std::int64_t recent_begin = size() - num_recent();
  const auto copy_halves = [&](const std::vector<std::uint16_t>& halves, std::int64_t begin, std::int64_t end,
                               std::int64_t first_half) {
    for (std::int64_t i = begin * dim(); i < end * dim(); ++i) {
      keys.data[i - first_token * dim()] =
          half_to_float(halves[static_cast<std::size_t>(i - first_half * dim())]);
    }
  };
  copy_halves(sink_keys_, first_token, std::clamp(num_sinks(), first_token, last_token), 0);
  copy_halves(recent_keys_, std::clamp(recent_begin, first_token, last_token), last_token, recent_begin);
  const std::int64_t begin = std::max(first_token, num_sinks());
  const std::int64_t end = std::min(last_token, recent_begin);
  if (begin >= end) return;
  const HostView<float> coded = keys.row_range(begin - first_token, end - begin);
  decode_codes(context, begin - num_sinks(), coded);
  if (method_->before_rope()) {
    const std::span<const std::int64_t> all(positions_);
    RopeTable(*rope_, all.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(coded.rows)))
        .apply(coded);
  }
}

template <typename Body>
void KeySequence::for_decoded_blocks(const Context& context, const Body& body) const {
  std::vector<float> block(static_cast<std::size_t>(std::min(tokens_per_block, size()) * dim()));
  for (std::int64_t first = 0; first < size(); first += tokens_per_block) {
    const HostView<float> keys{block.data(), std::min(tokens_per_block, size() - first), dim()};
    decode_range(context, first, keys);
    body(first, keys);
  }
}

void KeySequence::score(const Context& context, HostView<const float> queries, HostView<float> scores) const {
  const auto score_rows = [&](std::int64_t first, const HostView<const float>& keys) {
    parallel_for(context, queries.rows, [&](std::int64_t i) {
      for (std::int64_t t = 0; t < keys.rows; ++t) {
        scores.row(i)[first + t] = static_cast<float>(dot_product(queries.row(i), keys.row(t), dim()));
      }
    });
  };
  if (!works_on_codes()) return for_decoded_blocks(context, score_rows);
  if (!codes_) return;
  const std::int64_t coded = codes_->size();
  const std::vector<float> sinks = to_floats(sink_keys_), recent = to_floats(recent_keys_);
  score_rows(0, {sinks.data(), num_sinks(), dim()});
  score_rows(size() - num_recent(), {recent.data(), num_recent(), dim()});
  std::vector<float> code_scores(static_cast<std::size_t>(queries.rows * coded));
  sequence_.quantizer->score(context, queries, codes_->view(), {code_scores.data(), queries.rows, coded});
  for (std::int64_t i = 0; i < queries.rows; ++i) {
    const float centre =
        sequence_.centre.empty()
            ? 0.0F
            : static_cast<float>(dot_product(queries.row(i), sequence_.centre.data(), dim()));
    for (std::int64_t t = 0; t < coded; ++t) {
      scores.row(i)[num_sinks() + t] = code_scores[static_cast<std::size_t>(i * coded + t)] + centre;
    }
  }
}

void KeySequence::weighted_sum(const Context& context, HostView<const float> weights,
                               HostView<float> sums) const {
  std::fill_n(sums.data, sums.size(), 0.0F);
  const auto add_rows = [&](std::int64_t first, const HostView<const float>& keys) {
    for (std::int64_t i = 0; i < weights.rows; ++i) {
      for (std::int64_t t = 0; t < keys.rows; ++t) {
        const float weight = weights.row(i)[first + t];
        for (std::int64_t c = 0; c < dim(); ++c) sums.row(i)[c] += weight * keys.row(t)[c];
      }
    }
  };
  if (!works_on_codes()) return for_decoded_blocks(context, add_rows);
  if (!codes_) return;
  const std::int64_t coded = codes_->size();
  std::vector<float> code_weights(static_cast<std::size_t>(weights.rows * coded));
  for (std::int64_t i = 0; i < weights.rows; ++i) {
    std::copy_n(weights.row(i) + num_sinks(), coded, code_weights.data() + i * coded);
  }
  sequence_.quantizer->weighted_sum(context, {code_weights.data(), weights.rows, coded}, codes_->view(),
                                    sums);
  const std::vector<float> sinks = to_floats(sink_keys_), recent = to_floats(recent_keys_);
  add_rows(0, {sinks.data(), num_sinks(), dim()});
  add_rows(size() - num_recent(), {recent.data(), num_recent(), dim()});
  if (sequence_.centre.empty()) return;
  for (std::int64_t i = 0; i < weights.rows; ++i) {
    float coded_weight = 0.0F;
    for (std::int64_t t = 0; t < coded; ++t)
      coded_weight += code_weights[static_cast<std::size_t>(i * coded + t)];
    for (std::int64_t c = 0; c < dim(); ++c)
      sums.row(i)[c] += coded_weight * sequence_.centre[static_cast<std::size_t>(c)];
  }
}

std::int64_t KeySequence::side_bits() const {
  std::int64_t bits = 0;
  for (const SideField& field : sequence_.side) bits += field.bits;
  return bits;
}

}  // namespace rotorquant
