#include "rotorquant/cache/kv_cache.hpp"

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/softmax.hpp"

namespace rotorquant {
namespace {

void check_shape(const char* what, std::int64_t cols, std::int64_t dim) {
  if (cols != dim) {
    throw Error(std::string("KV cache: ") + what + " of dim " + std::to_string(cols) +
                "; valid: " + std::to_string(dim));
  }
}

std::int64_t bits_of(const KeySequence& sequence) {
  return sequence.code_bits() + sequence.sink_bits() + sequence.window_bits() + sequence.side_bits();
}

KeySequence plain_sequence(std::shared_ptr<const Quantizer> quantizer) {
  return {std::make_shared<CenteredKeys>(std::move(quantizer), Centering::none), 0};
}

}  // namespace

KVCache::KVCache(std::shared_ptr<const Quantizer> keys, std::shared_ptr<const Quantizer> values)
    : KVCache(plain_sequence(std::move(keys)), plain_sequence(std::move(values))) {}

KVCache::KVCache(KeySequence keys, KeySequence values) : keys_(std::move(keys)), values_(std::move(values)) {
  if (keys_.size() != 0 || values_.size() != 0) {
    throw Error("KV cache: sequences of " + std::to_string(keys_.size()) + " and " +
                std::to_string(values_.size()) + " tokens; valid: empty ones");
  }
}

std::int64_t KVCache::bytes() const {
  return (bits_of(keys_) + bits_of(values_)) / 8;
}

void KVCache::append(const Context& context, HostView<const float> keys, HostView<const float> values) {
  check_shape("keys", keys.cols, keys_.dim());
  check_shape("values", values.cols, values_.dim());
  if (keys.rows != values.rows) {
    throw Error("KV cache: " + std::to_string(keys.rows) + " keys and " + std::to_string(values.rows) +
                " values; valid: as many of each");
  }
  std::vector<std::int64_t> positions(static_cast<std::size_t>(keys.rows));
  std::iota(positions.begin(), positions.end(), size());
  KeySequence::Addition more_keys = keys_.prepare(context, keys, positions);
  KeySequence::Addition more_values = values_.prepare(context, values, positions);
  keys_.commit(std::move(more_keys));
  values_.commit(std::move(more_values));
}

void KVCache::attention_scores(const Context& context, HostView<const float> queries,
                               HostView<float> scores) const {
  check_shape("queries", queries.cols, keys_.dim());
  keys_.score(context, queries, scores);
}

void KVCache::values(const Context& context, HostView<float> out) const {
  values_.decode(context, out);
}

void KVCache::attend(const Context& context, HostView<const float> queries, float softmax_scale,
                     HostView<float> outputs) const {
  if (size() == 0) throw Error("KV cache: attend on an empty cache; valid: after append");
  std::vector<float> weights(static_cast<std::size_t>(queries.rows * size()));
  attention_scores(context, queries, {weights.data(), queries.rows, size()});
  parallel_for(context, queries.rows,
               [&](std::int64_t i) { softmax(weights.data() + i * size(), size(), softmax_scale); });
  values_.weighted_sum(context, {weights.data(), queries.rows, size()}, outputs);
}

}  // namespace rotorquant
