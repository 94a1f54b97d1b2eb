#include "evaluation/bench/calibrated_gpu_keys.hpp"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "evaluation/bench/fitted_quantizer.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/registry.hpp"

namespace rotorquant::evaluation {
namespace {

// Values that go with calibrated keys.
constexpr char value_quantizer[] = "rotorquant:rotation=cascade:codec=trellis";
constexpr double rope_theta = 10000.0;
// Of the vectors drawn, those that are fitted as keys; half as many are queries.
constexpr std::int64_t fitted_share = 2, drawn_share = 3;

Rope whole_rope(std::int64_t dim) {
  Rope rope;
  for (std::int64_t j = 0; j < dim / 2; ++j)
    rope.inv_freq.push_back(std::pow(rope_theta, -2.0 * static_cast<double>(j) / static_cast<double>(dim)));
  return rope;
}

// The codes of all keys, and what the CPU decodes those of the first distinct ones to.
struct Keys {
  std::shared_ptr<const CalibratedCodec> codec;
  std::unique_ptr<DeviceMemory> memory;
  std::vector<float> decoded;  // [distinct, dim], before RoPE

  Codes<Space::cuda> codes(std::int64_t count) const {
    Codes<Space::cuda> view;
    view.arrays[0] = memory->data();
    view.count = count;
    return view;
  }
};

std::shared_ptr<Keys> encode_keys(const GpuData& data, std::shared_ptr<const CalibratedCodec> codec) {
  auto keys = std::make_shared<Keys>();
  const std::int64_t bytes = codec->layout().bytes_per_vector();
  keys->memory = std::make_unique<DeviceMemory>(data.gpu, bytes * data.shape.vectors);
  CodeBuffer buffer(codec->layout(), data.distinct);
  codec->encode({}, {data.drawn.data(), data.distinct, data.shape.dim}, buffer.view());
  keys->memory->upload(std::as_const(buffer).view().arrays[0], 0, bytes * data.distinct);
  keys->memory->repeat(bytes * data.distinct);
  keys->decoded.resize(data.drawn.size());
  codec->decode({}, std::as_const(buffer).view(), {keys->decoded.data(), data.distinct, data.shape.dim});
  keys->codec = std::move(codec);
  return keys;
}

// Keys after RoPE in the layout of halves.
KeyOfToken turned_keys(const GpuData& data, const std::shared_ptr<Keys>& keys, const Rope& rope) {
  const std::int64_t dim = data.shape.dim, distinct = data.distinct;
  return [keys, rope, dim, distinct](std::int64_t token, double* key) {
    const float* const row = keys->decoded.data() + token % distinct * dim;
    for (std::int64_t j = 0; j < dim / 2; ++j) {
      const double angle = static_cast<double>(token) * rope.inv_freq[static_cast<std::size_t>(j)];
      const double a = static_cast<double>(row[j]), b = static_cast<double>(row[j + dim / 2]);
      key[j] = a * std::cos(angle) - b * std::sin(angle);
      key[j + dim / 2] = b * std::cos(angle) + a * std::sin(angle);
    }
  };
}

}  // namespace

std::shared_ptr<const CalibratedCodec> CalibratedGpuKeys::codec(const std::string& text) {
  const BenchShape& shape = data_->shape;
  const std::int64_t count = data_->distinct * fitted_share / drawn_share;
  const HostView<const float> fitted{data_->drawn.data(), count, shape.dim};
  if (!transforms_) {
    transforms_ = bench_transforms(from_, shape, fitted,
                                   {data_->drawn.data() + count * shape.dim, count / 2, shape.dim});
  }
  auto made =
      std::dynamic_pointer_cast<const CalibratedCodec>(fitted_quantizer(text, shape, transforms_, fitted));
  if (!made) throw Error("it has no device code; valid: rotorquant-calibrated");
  return made;
}

BenchOperation CalibratedGpuKeys::operation(const std::string& name, const std::string& text) {
  const std::shared_ptr<GpuData> data = data_;
  const BenchShape& shape = data->shape;
  const std::shared_ptr<const CalibratedCodec> codec = this->codec(text);
  const std::shared_ptr<Keys> keys = encode_keys(*data, codec);
  const Rope rope = whole_rope(shape.dim);
  const std::int64_t rows = GpuData::query_rows(shape), key_bytes = keys->memory->bytes();
  const DeviceView<const float> queries{data->query(), rows, shape.dim};
  if (name == score_group_operation) {
    const std::shared_ptr<const KeyScores> scores = make_calibrated_scores({&codec, 1}, rope, data->gpu);
    const auto run = [data, keys, scores, queries] {
      const AttentionSize size = data->attention();
      scores->score(nullptr, size, queries, keys->codes(data->shape.vectors),
                    {data->score_values(), queries.rows, size.capacity});
    };
    const auto check = [data, keys, rope, run, text] {
      run();
      check_group_scores(*data, turned_keys(*data, keys, rope), text);
    };
    return {name, text, key_bytes, 4 * queries_a_head * shape.vectors, check, gpu_timer(data, run)};
  }
  const std::shared_ptr<const Quantizer> value_codec =
      make_quantizer(QuantizerSpec::parse(value_quantizer), {shape.bits, gpu_data_seed, shape.dim});
  const std::shared_ptr<const PackedAttention> attention =
      make_calibrated_attention({&codec, 1}, rope, value_codec, data->gpu);
  const std::shared_ptr<GpuSubject> values = make_gpu_subject(data, value_quantizer, value_codec);
  const auto run = [data, keys, values, attention, queries] {
    attention->attend(nullptr, data->workspace, data->attention(), queries, keys->codes(data->shape.vectors),
                      values->codes(), {data->score_values(), queries.rows, data->shape.dim});
  };
  const auto check = [data, keys, values, rope, run, text] {
    values->encode();
    run();
    values->finish();
    check_attention(*data, turned_keys(*data, keys, rope), values->decoded(data->distinct), text);
  };
  return {name, text, key_bytes + values->code_bytes(), 4 * rows * shape.dim, check, gpu_timer(data, run)};
}

}  // namespace rotorquant::evaluation
