#include "rotorquant/cache/kv_cache.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

void check_shape(const char* what, std::int64_t cols, std::int64_t dim) {
  if (cols != dim) {
    throw Error(std::string("KV cache: ") + what + " of dim " + std::to_string(cols) +
                "; valid: " + std::to_string(dim));
  }
}

// In place, in float32, with the usual subtraction of the maximum.
void softmax(float* row, std::int64_t count, float scale) {
  const float largest = *std::max_element(row, row + count);
  float sum = 0.0F;
  for (std::int64_t t = 0; t < count; ++t) {
    row[t] = std::exp(scale * (row[t] - largest));
    sum += row[t];
  }
  for (std::int64_t t = 0; t < count; ++t) row[t] /= sum;
}

}  // namespace

KVCache::KVCache(std::shared_ptr<const Quantizer> keys, std::shared_ptr<const Quantizer> values)
    : key_quantizer_(std::move(keys)),
      value_quantizer_(std::move(values)),
      keys_(key_quantizer_->layout()),
      values_(value_quantizer_->layout()) {}

void KVCache::append(const Context& context, HostView<const float> keys, HostView<const float> values) {
  check_shape("keys", keys.cols, key_quantizer_->dim());
  check_shape("values", values.cols, value_quantizer_->dim());
  if (keys.rows != values.rows) {
    throw Error("KV cache: " + std::to_string(keys.rows) + " keys and " + std::to_string(values.rows) +
                " values; valid: as many of each");
  }
  // Encoded aside first: when a row is refused, the cache stays as it was.
  CodeBuffer key_codes(key_quantizer_->layout(), keys.rows);
  CodeBuffer value_codes(value_quantizer_->layout(), values.rows);
  key_quantizer_->encode(context, keys, key_codes.view());
  value_quantizer_->encode(context, values, value_codes.view());
  keys_.append(key_codes);
  values_.append(value_codes);
}

void KVCache::attention_scores(const Context& context, HostView<const float> queries,
                               HostView<float> scores) const {
  check_shape("queries", queries.cols, key_quantizer_->dim());
  key_quantizer_->score(context, queries, keys_.view(), scores);
}

void KVCache::values(const Context& context, HostView<float> out) const {
  value_quantizer_->decode(context, values_.view(), out);
}

void KVCache::attend(const Context& context, HostView<const float> queries, float softmax_scale,
                     HostView<float> outputs) const {
  if (size() == 0) throw Error("KV cache: attend on an empty cache; valid: after append");
  std::vector<float> weights(static_cast<std::size_t>(queries.rows * size()));
  attention_scores(context, queries, {weights.data(), queries.rows, size()});
  parallel_for(context, queries.rows,
               [&](std::int64_t i) { softmax(weights.data() + i * size(), size(), softmax_scale); });
  value_quantizer_->weighted_sum(context, {weights.data(), queries.rows, size()}, values_.view(), outputs);
}

}  // namespace rotorquant
