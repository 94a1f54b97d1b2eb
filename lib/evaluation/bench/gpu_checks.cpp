#include "evaluation/bench/gpu_checks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

// Of the checked rows' arrays; a coordinate within 1e-5 of a boundary may fall to its other side.
constexpr std::int64_t rows_that_may_differ = 4;
// Of the norms' product: tensor cores score with fp16 centroids.
constexpr double score_tolerance = 2e-4;
// The same where keys are rounded to fp16 on their way, and so are their scales and the sines that turn them.
constexpr double half_key_score_tolerance = 5e-4;
// Of the output's norm: weights are fp16, and outputs are shorter than the values they average.
constexpr double attend_tolerance = 5e-3;

double norm_of(const float* x, std::int64_t dim) {
  double energy = 0.0;
  for (std::int64_t c = 0; c < dim; ++c) energy += static_cast<double>(x[c]) * static_cast<double>(x[c]);
  return std::sqrt(energy);
}

double distance_of(const float* x, const float* y, std::int64_t dim) {
  double energy = 0.0;
  for (std::int64_t c = 0; c < dim; ++c)
    energy += std::pow(static_cast<double>(x[c]) - static_cast<double>(y[c]), 2);
  return std::sqrt(energy);
}

[[noreturn]] void refuse(const CheckedRow& row) {
  throw Error(fmt::format("bench: {} by '{}' on the GPU is wrong at vector {}", row.operation, row.quantizer,
                          row.index));
}

}  // namespace

std::shared_ptr<GpuSubject> make_gpu_subject(const std::shared_ptr<GpuData>& data, const std::string& text,
                                             std::shared_ptr<const Quantizer> quantizer) {
  auto subject = std::make_shared<GpuSubject>();
  subject->text = text;
  subject->device = make_device_quantizer(quantizer, data->gpu);
  subject->quantizer = std::move(quantizer);
  subject->data = data;
  for (const CodeArray& array : subject->quantizer->layout().arrays) {
    subject->arrays.push_back(
        std::make_unique<DeviceMemory>(data->gpu, data->shape.vectors * array.bytes_per_vector()));
  }
  return subject;
}

void check_row(const float* got, const float* want, std::int64_t dim, double tolerance,
               const CheckedRow& row) {
  if (!(distance_of(got, want, dim) <= tolerance * norm_of(want, dim))) refuse(row);
}

void check_encode(const GpuSubject& subject) {
  subject.encode();
  subject.finish();
  const CodeBuffer got = subject.first_codes(subject.data->checked());
  CodeBuffer want(subject.quantizer->layout(), subject.data->checked());
  subject.quantizer->encode({}, subject.data->checked_vectors(), want.view());
  std::int64_t different = 0;
  for (std::size_t a = 0; a < subject.arrays.size(); ++a) {
    const std::int64_t bytes = subject.quantizer->layout().arrays[a].bytes_per_vector();
    for (std::int64_t r = 0; r < subject.data->checked(); ++r) {
      if (std::memcmp(got.view().arrays[a] + r * bytes, std::as_const(want).view().arrays[a] + r * bytes,
                      static_cast<std::size_t>(bytes)) != 0 &&
          ++different > rows_that_may_differ)
        refuse({"encode", subject.text, r});
    }
  }
}

void check_decode(const GpuSubject& subject) {
  const GpuData& data = *subject.data;
  subject.device->decode(nullptr, subject.codes(), data.y());
  subject.finish();
  const std::int64_t count = data.checked() * data.shape.dim;
  std::vector<std::uint8_t> elements(static_cast<std::size_t>(count * element_bytes(data.shape.type)));
  std::vector<float> got(static_cast<std::size_t>(count));
  data.output.download(elements.data(), 0, static_cast<std::int64_t>(elements.size()));
  load_elements(data.shape.type, elements.data(), count, got.data());
  const std::vector<float> want = subject.decoded(data.checked());
  const double tolerance = data.shape.type == rotorquant::ElementType::bfloat16 ? 0x1p-8 : 0x1p-11;
  for (std::int64_t r = 0; r < data.checked(); ++r) {
    const float* const row = want.data() + r * data.shape.dim;
    check_row(got.data() + r * data.shape.dim, row, data.shape.dim, tolerance, {"decode", subject.text, r});
  }
}

void check_score(const GpuSubject& subject, std::int64_t queries) {
  const GpuData& data = *subject.data;
  const std::vector<float> keys = subject.decoded(data.checked());
  std::vector<float> got(static_cast<std::size_t>(data.checked()));
  for (std::int64_t i = 0; i < queries; ++i) {
    data.scores.download(got.data(), 4 * i * data.shape.vectors, 4 * data.checked());
    const float* const query = data.query_values.data() + i * data.shape.dim;
    for (std::int64_t r = 0; r < data.checked(); ++r) {
      const float* const key = keys.data() + r * data.shape.dim;
      double want = 0.0;
      for (std::int64_t c = 0; c < data.shape.dim; ++c)
        want += static_cast<double>(key[c]) * static_cast<double>(query[c]);
      const double size = norm_of(key, data.shape.dim) * norm_of(query, data.shape.dim);
      if (!(std::abs(static_cast<double>(got[static_cast<std::size_t>(r)]) - want) <= score_tolerance * size))
        refuse({"score", subject.text, r});
    }
  }
}

KeyOfToken repeated_rows(const GpuData& data, std::vector<float> rows) {
  const std::int64_t dim = data.shape.dim, distinct = data.distinct;
  return [rows = std::move(rows), dim, distinct](std::int64_t token, double* key) {
    std::copy_n(rows.data() + token % distinct * dim, dim, key);
  };
}

void check_group_scores(const GpuData& data, const KeyOfToken& key_of, const std::string& text) {
  const std::int64_t dim = data.shape.dim, tokens = data.attention().tokens;
  const std::int64_t count = std::min(tokens, checked_rows);
  std::vector<float> got(static_cast<std::size_t>(count));
  std::vector<double> key(static_cast<std::size_t>(dim));
  // The last tokens, where rotary embeddings have turned most.
  for (std::int64_t i = 0; i < queries_a_head; ++i) {
    data.scores.download(got.data(), 4 * (i * tokens + tokens - count), 4 * count);
    const float* const query = data.query_values.data() + i * dim;
    for (std::int64_t r = 0; r < count; ++r) {
      key_of(tokens - count + r, key.data());
      double want = 0.0, energy = 0.0;
      for (std::int64_t c = 0; c < dim; ++c) {
        want += key[static_cast<std::size_t>(c)] * static_cast<double>(query[c]);
        energy += std::pow(key[static_cast<std::size_t>(c)], 2);
      }
      const double size = std::sqrt(energy) * norm_of(query, dim);
      if (!(std::abs(static_cast<double>(got[static_cast<std::size_t>(r)]) - want) <=
            half_key_score_tolerance * size))
        refuse({score_group_operation, text, tokens - count + r});
    }
  }
}

void check_attention(const GpuData& data, const KeyOfToken& key_of, const std::vector<float>& values,
                     const std::string& text) {
  const std::int64_t dim = data.shape.dim;
  const AttentionSize size = data.attention();
  std::vector<float> got(static_cast<std::size_t>(queries_a_head * dim));
  data.scores.download(got.data(), 0, 4 * queries_a_head * dim);
  std::vector<double> key(static_cast<std::size_t>(dim));
  std::vector<double> outputs(got.size(), 0.0), sums(static_cast<std::size_t>(queries_a_head), 0.0);
  for (std::int64_t t = 0; t < size.tokens; ++t) {
    key_of(t, key.data());
    const float* const value = values.data() + t % data.distinct * dim;
    for (std::int64_t i = 0; i < queries_a_head; ++i) {
      double score = 0.0;
      for (std::int64_t c = 0; c < dim; ++c) {
        score += key[static_cast<std::size_t>(c)] *
                 static_cast<double>(data.query_values[static_cast<std::size_t>(i * dim + c)]);
      }
      const double weight = std::exp(score * static_cast<double>(size.scale));
      sums[static_cast<std::size_t>(i)] += weight;
      for (std::int64_t c = 0; c < dim; ++c)
        outputs[static_cast<std::size_t>(i * dim + c)] += weight * static_cast<double>(value[c]);
    }
  }
  for (std::int64_t i = 0; i < queries_a_head; ++i) {
    std::vector<float> want(static_cast<std::size_t>(dim));
    for (std::size_t c = 0; c < want.size(); ++c) {
      want[c] = static_cast<float>(outputs[static_cast<std::size_t>(i * dim) + c] /
                                   sums[static_cast<std::size_t>(i)]);
    }
    check_row(got.data() + i * dim, want.data(), dim, attend_tolerance, {attend_operation, text, i});
  }
}

}  // namespace rotorquant::evaluation
