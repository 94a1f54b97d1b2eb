#include "rotorquant/cache/key_sequence.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant {
namespace {

// Keys decoded at a time while scoring.
constexpr std::int64_t tokens_per_block = 256;

}  // namespace

KeySequence::KeySequence(std::shared_ptr<const KeyMethod> method, std::int64_t sinks,
                         std::shared_ptr<const Rope> rope)
    : method_(std::move(method)), sinks_(sinks), rope_(std::move(rope)) {
  if (sinks_ < 0) throw UsageError("sinks = " + std::to_string(sinks_) + "; valid: 0 or more");
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

void KeySequence::append(const Context& context, HostView<const float> keys,
                         std::span<const std::int64_t> positions) {
  if (keys.cols != dim() || keys.rows != static_cast<std::int64_t>(positions.size())) {
    throw Error("append: keys are " + std::to_string(keys.rows) + " x " + std::to_string(keys.cols) +
                " with " + std::to_string(positions.size()) +
                " positions; valid: as many positions as keys of head_dim " + std::to_string(dim()));
  }
  if (keys.rows == 0) return;
  const std::int64_t first_token = size();
  const std::int64_t sinks = std::clamp(sinks_ - first_token, std::int64_t{0}, keys.rows);
  std::vector<std::uint16_t> halves(static_cast<std::size_t>(sinks * dim()));
  for (std::int64_t t = 0; t < sinks; ++t) {
    for (std::int64_t i = 0; i < dim(); ++i) {
      const float value = keys.row(t)[i];
      const std::uint16_t half = float_to_half(value);
      if (!std::isfinite(half_to_float(half))) {
        throw Error("append: token " + std::to_string(first_token + t) + ", coordinate " + std::to_string(i) +
                    " is " + std::to_string(value) +
                    "; valid: finite 16-bit values, this token is kept in 16 bits");
      }
      halves[static_cast<std::size_t>(t * dim() + i)] = half;
    }
  }

  std::vector<float> coded(keys.data, keys.data + keys.size());
  const HostView<float> view{coded.data(), keys.rows, dim()};
  if (method_->before_rope()) RopeTable(*rope_, positions).remove(view);
  SequenceQuantizer opened;
  if (!codes_) opened = method_->open(view, sinks);
  const SequenceQuantizer& sequence = codes_ ? sequence_ : opened;
  for (std::int64_t t = sinks; t < keys.rows && !sequence.centre.empty(); ++t) {
    for (std::int64_t i = 0; i < dim(); ++i) view.row(t)[i] -= sequence.centre[static_cast<std::size_t>(i)];
  }
  CodeBuffer added(method_->layout(), keys.rows - sinks);
  sequence.quantizer->encode(context, view.row_range(sinks, keys.rows - sinks), added.view());

  // Nothing can fail from here on: an append that throws leaves the sequence as it was.
  if (!codes_) {
    sequence_ = std::move(opened);
    codes_ = std::move(added);
  } else {
    codes_->append(added);
  }
  sink_keys_.insert(sink_keys_.end(), halves.begin(), halves.end());
  positions_.insert(positions_.end(), positions.begin(), positions.end());
}

void KeySequence::decode_range(const Context& context, std::int64_t first_token, HostView<float> keys) const {
  const std::int64_t kept = static_cast<std::int64_t>(sink_keys_.size()) / dim();
  const std::int64_t sinks = std::clamp(kept - first_token, std::int64_t{0}, keys.rows);
  for (std::int64_t i = 0; i < sinks * dim(); ++i) {
    keys.data[i] = half_to_float(sink_keys_[static_cast<std::size_t>(first_token * dim() + i)]);
  }
  const HostView<float> coded = keys.row_range(sinks, keys.rows - sinks);
  if (coded.rows == 0) return;
  const std::int64_t first_code = first_token + sinks - kept;
  ConstCodes<Space::cpu> codes = codes_->view();
  for (std::size_t a = 0; a < method_->layout().arrays.size(); ++a) {
    codes.arrays[a] += first_code * method_->layout().arrays[a].bytes_per_vector();
  }
  codes.count = coded.rows;
  sequence_.quantizer->decode(context, codes, coded);
  for (std::int64_t t = 0; t < coded.rows && !sequence_.centre.empty(); ++t) {
    for (std::int64_t i = 0; i < dim(); ++i) coded.row(t)[i] += sequence_.centre[static_cast<std::size_t>(i)];
  }
  if (method_->before_rope()) {
    const std::span<const std::int64_t> all(positions_);
    RopeTable(*rope_, all.subspan(static_cast<std::size_t>(first_token + sinks),
                                  static_cast<std::size_t>(coded.rows)))
        .apply(coded);
  }
}

std::vector<float> KeySequence::decoded_sinks() const {
  std::vector<float> sinks;
  for (const std::uint16_t half : sink_keys_) sinks.push_back(half_to_float(half));
  return sinks;
}

void KeySequence::score(const Context& context, HostView<const float> queries, HostView<float> scores) const {
  if (method_->before_rope()) {
    std::vector<float> block(static_cast<std::size_t>(std::min(tokens_per_block, size()) * dim()));
    for (std::int64_t first = 0; first < size(); first += tokens_per_block) {
      const HostView<float> keys{block.data(), std::min(tokens_per_block, size() - first), dim()};
      decode_range(context, first, keys);
      parallel_for(context, queries.rows, [&](std::int64_t i) {
        for (std::int64_t t = 0; t < keys.rows; ++t) {
          scores.row(i)[first + t] = static_cast<float>(dot_product(queries.row(i), keys.row(t), dim()));
        }
      });
    }
    return;
  }
  if (!codes_) return;
  const std::int64_t sinks = num_sinks();
  const std::int64_t coded = size() - sinks;
  const std::vector<float> sink_rows = decoded_sinks();
  std::vector<float> code_scores(static_cast<std::size_t>(queries.rows * coded));
  sequence_.quantizer->score(context, queries, codes_->view(), {code_scores.data(), queries.rows, coded});
  for (std::int64_t i = 0; i < queries.rows; ++i) {
    for (std::int64_t t = 0; t < sinks; ++t) {
      scores.row(i)[t] = static_cast<float>(dot_product(queries.row(i), sink_rows.data() + t * dim(), dim()));
    }
    const float centre =
        sequence_.centre.empty()
            ? 0.0F
            : static_cast<float>(dot_product(queries.row(i), sequence_.centre.data(), dim()));
    for (std::int64_t t = 0; t < coded; ++t) {
      scores.row(i)[sinks + t] = code_scores[static_cast<std::size_t>(i * coded + t)] + centre;
    }
  }
}

void KeySequence::weighted_sum(const Context& context, HostView<const float> weights,
                               HostView<float> sums) const {
  std::fill_n(sums.data, sums.size(), 0.0F);
  const auto add = [&](std::int64_t i, float weight, const float* row) {
    for (std::int64_t c = 0; c < dim(); ++c) sums.row(i)[c] += weight * row[c];
  };
  if (method_->before_rope()) {
    std::vector<float> block(static_cast<std::size_t>(std::min(tokens_per_block, size()) * dim()));
    for (std::int64_t first = 0; first < size(); first += tokens_per_block) {
      const HostView<float> keys{block.data(), std::min(tokens_per_block, size() - first), dim()};
      decode_range(context, first, keys);
      for (std::int64_t i = 0; i < weights.rows; ++i) {
        for (std::int64_t t = 0; t < keys.rows; ++t) add(i, weights.row(i)[first + t], keys.row(t));
      }
    }
    return;
  }
  if (!codes_) return;
  const std::int64_t sinks = num_sinks();
  const std::int64_t coded = size() - sinks;
  std::vector<float> code_weights(static_cast<std::size_t>(weights.rows * coded));
  for (std::int64_t i = 0; i < weights.rows; ++i) {
    std::copy_n(weights.row(i) + sinks, coded, code_weights.data() + i * coded);
  }
  sequence_.quantizer->weighted_sum(context, {code_weights.data(), weights.rows, coded}, codes_->view(),
                                    sums);
  const std::vector<float> sink_rows = decoded_sinks();
  for (std::int64_t i = 0; i < weights.rows; ++i) {
    for (std::int64_t t = 0; t < sinks; ++t) add(i, weights.row(i)[t], sink_rows.data() + t * dim());
    if (sequence_.centre.empty()) continue;
    float coded_weight = 0.0F;
    for (std::int64_t t = sinks; t < size(); ++t) coded_weight += weights.row(i)[t];
    add(i, coded_weight, sequence_.centre.data());
  }
}

void KeySequence::truncate(std::int64_t count) {
  if (count >= size()) return;
  positions_.resize(static_cast<std::size_t>(count));
  sink_keys_.resize(static_cast<std::size_t>(std::min(count, num_sinks()) * dim()));
  if (codes_) codes_->truncate(count - num_sinks());
  if (count > 0) return;
  codes_.reset();
  sequence_ = {};
}

std::int64_t KeySequence::side_bits() const {
  std::int64_t bits = 0;
  for (const SideField& field : sequence_.side) bits += field.bits;
  return bits;
}

}  // namespace rotorquant
