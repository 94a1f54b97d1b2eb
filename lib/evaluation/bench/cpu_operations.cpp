#include "evaluation/bench/cpu_operations.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <utility>

#include "evaluation/bench/buffer.hpp"
#include "evaluation/bench/cpu_checks.hpp"
#include "evaluation/bench/fitted_quantizer.hpp"
#include "evaluation/bench/host_kernels.hpp"
#include "evaluation/bench/tuned_dense.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/softmax.hpp"
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::evaluation {
namespace {

// Fitted quantizers see this many of them as keys, and half as many others as queries.
constexpr std::int64_t fitted_keys = 1024;
constexpr std::int64_t l2_bytes = 512 << 10;    // of input, for each thread
constexpr std::int64_t dram_bytes = 128 << 20;  // of input, in all

BenchOperation copy_of(const std::shared_ptr<HostData>& data, std::int64_t bytes) {
  struct Buffers {
    BenchBuffer from, to;
  };
  auto buffers = std::make_shared<Buffers>();
  buffers->from = BenchBuffer(data->context, bytes);
  buffers->to = BenchBuffer(data->context, bytes);
  const auto run = [data, buffers, bytes] {
    copy_memory(data->context, buffers->from.data(), buffers->to.data(), bytes);
  };
  const auto check = [buffers, bytes, run] {
    std::memset(buffers->from.data(), 0x5A, static_cast<std::size_t>(bytes));
    run();
    if (std::memcmp(buffers->from.data(), buffers->to.data(), static_cast<std::size_t>(bytes)) != 0)
      throw Error("bench: copy is wrong");
  };
  return {copy_operation, "", bytes, bytes, check, host_timer(run)};
}

BenchOperation read_of(const std::shared_ptr<HostData>& data) {
  const std::int64_t bytes = data->input_bytes();
  auto sum = std::make_shared<std::uint64_t>(0);
  const auto run = [data, bytes, sum] { *sum = read_memory(data->context, data->input.data(), bytes); };
  const auto check = [data, bytes, sum, run] {
    run();
    std::uint64_t expected = 0;
    for (std::int64_t i = 0; i + 8 <= bytes; i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, data->input.data() + i, sizeof word);
      expected += word;
    }
    if (*sum != expected) throw Error("bench: read is wrong");
  };
  return {read_operation, "", bytes, 0, check, host_timer(run)};
}

BenchOperation score_elements(const std::string& name, const std::shared_ptr<HostData>& data) {
  const auto run = [data] {
    score_rows(data->context, {data->query.data(), 1, data->shape.dim}, data->x(),
               {data->scores.data(), 1, data->shape.vectors});
  };
  const auto check = [data, run] {
    run();
    for_checked_host_rows(*data, [&](std::int64_t r, const std::vector<float>& x) {
      check_score(*data, x, r, element_baseline, sum_tolerance);
    });
  };
  return {name, element_baseline, data->input_bytes(), 4 * data->shape.vectors, check, host_timer(run)};
}

// One token's queries over all vectors as its keys and values: score(weights), softmax, sum(weights).
template <typename Score, typename Sum>
void attend(HostData& data, const Score& score, const Sum& sum) {
  const std::int64_t tokens = data.shape.vectors;
  score(HostView<const float>{data.query.data(), attending_queries, data.shape.dim},
        HostView<float>{data.weights.data(), attending_queries, tokens});
  parallel_for(data.context, attending_queries, [&](std::int64_t i) {
    softmax(data.weights.data() + i * tokens, tokens, static_cast<float>(attend_scale(data.shape.dim)));
  });
  sum(HostView<const float>{data.weights.data(), attending_queries, tokens},
      HostView<float>{data.outputs.data(), attending_queries, data.shape.dim});
}

std::int64_t output_bytes(const HostData& data) {
  return 4 * attending_queries * data.shape.dim;
}

BenchOperation attend_elements(const std::shared_ptr<HostData>& data) {
  const auto run = [data] {
    attend(
        *data,
        [&](HostView<const float> queries, HostView<float> scores) {
          score_rows(data->context, queries, data->x(), scores);
        },
        [&](HostView<const float> weights, HostView<float> sums) {
          sum_rows(data->context, weights, data->values(), sums);
        });
  };
  const auto check = [data, run] {
    std::memcpy(data->output.data(), data->input.data(), static_cast<std::size_t>(data->input_bytes()));
    run();
    std::vector<float> rows(data->drawn.size());
    load_elements(data->shape.type, data->input.data(), std::ssize(rows), rows.data());
    check_attend(*data, rows, element_baseline);
  };
  return {attend_operation, element_baseline, 2 * data->input_bytes(), output_bytes(*data), check,
          host_timer(run)};
}

BenchOperation attend_of(const std::shared_ptr<HostSubject>& subject) {
  const auto run = [subject] {
    const Context& context = subject->data->context;
    attend(
        *subject->data,
        [&](HostView<const float> queries, HostView<float> scores) {
          subject->quantizer->score(context, queries, std::as_const(subject->codes).view(), scores);
        },
        [&](HostView<const float> weights, HostView<float> sums) {
          subject->quantizer->weighted_sum(context, weights, std::as_const(subject->values).view(), sums);
        });
  };
  const auto check = [subject, run] {
    subject->quantizer->encode_tensor(subject->data->context, subject->data->x(), subject->codes.view());
    subject->values = subject->codes;
    run();
    check_attend(*subject->data, decoded_drawn(*subject), subject->text);
  };
  return {attend_operation, subject->text, 2 * subject->codes.bytes(), output_bytes(*subject->data), check,
          host_timer(run)};
}

BenchOperation operation_of(const std::string& name, const std::shared_ptr<HostSubject>& subject) {
  const HostData& data = *subject->data;
  const std::int64_t code_bytes = subject->codes.bytes();
  const auto encode = [subject] {
    subject->quantizer->encode_tensor(subject->data->context, subject->data->x(), subject->codes.view());
  };
  if (name == "encode") {
    return {name,
            subject->text,
            data.input_bytes(),
            code_bytes,
            [subject] { check_encode(*subject); },
            host_timer(encode)};
  }
  if (name == attend_operation) return attend_of(subject);
  // The others read codes, whoever wrote them.
  if (name == "decode") {
    const auto run = [subject] {
      subject->quantizer->decode_tensor(subject->data->context, std::as_const(subject->codes).view(),
                                        subject->data->y());
    };
    const auto check = [subject, encode] {
      encode();
      check_decode(*subject);
    };
    return {name, subject->text, code_bytes, data.input_bytes(), check, host_timer(run)};
  }
  const bool integers = name == "score-int8";
  const auto run = [subject, integers] {
    HostData& shared = *subject->data;
    const HostView<const float> query{shared.query.data(), 1, shared.shape.dim};
    const HostView<float> scores{shared.scores.data(), 1, shared.shape.vectors};
    const ConstCodes<Space::cpu> codes = std::as_const(subject->codes).view();
    if (integers) {
      subject->quantizer->score_int8(shared.context, query, codes, scores);
    } else {
      subject->quantizer->score(shared.context, query, codes, scores);
    }
  };
  const double tolerance = integers ? integer_tolerance : sum_tolerance;
  const auto check = [subject, encode, run, tolerance] {
    encode();
    run();
    for_checked_host_rows(*subject->data, [&](std::int64_t r, const std::vector<float>&) {
      check_score(*subject->data, decoded(*subject, r), r, subject->text, tolerance);
    });
  };
  return {name, subject->text, code_bytes, 4 * data.shape.vectors, check, host_timer(run)};
}

// Quantizers by their texts; fits what has to be fitted once.
class Builder {
 public:
  Builder(const CpuBenchRequest& request, const HostData& data) : request_(request), data_(data) {}

  std::shared_ptr<const Quantizer> build(const std::string& text);

 private:
  const CpuBenchRequest& request_;
  const HostData& data_;
  std::shared_ptr<const TransformSet> transforms_;
};

std::shared_ptr<const Quantizer> Builder::build(const std::string& text) {
  const BenchShape& shape = request_.shape;
  if (text == dense_baseline) {
    return std::make_shared<ScalarCodec>(std::make_shared<TunedDenseRotation>(shape.dim, host_data_seed),
                                         lloyd_max_codebook(CodebookLaw::gaussian, shape.bits, shape.dim));
  }
  if (is_fitted(text)) {
    const std::int64_t drawn = std::ssize(data_.drawn) / shape.dim;
    const std::int64_t count = std::min(fitted_keys, drawn * 2 / 3);
    const HostView<const float> keys{data_.drawn.data(), count, shape.dim};
    if (!transforms_) {
      transforms_ = bench_transforms(request_.transforms, shape, keys,
                                     {data_.drawn.data() + count * shape.dim, count / 2, shape.dim});
    }
    return fitted_quantizer(text, shape, transforms_, keys);
  }
  return make_quantizer(QuantizerSpec::parse(text), {shape.bits, host_data_seed, shape.dim});
}

}  // namespace

const std::vector<std::string>& cpu_operation_names() {
  static const std::vector<std::string> names{"encode", "decode", "score", "score-int8", attend_operation};
  return names;
}

BenchGroup cpu_group(const CpuBenchRequest& request, std::vector<SkippedOperation>& skipped) {
  for (const std::string& name : request.operations) {
    const std::vector<std::string>& known = cpu_operation_names();
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw UsageError(fmt::format("unknown operation '{}'{}; valid: {}", name, nearest_hint(name, known),
                                   fmt::join(known, ", ")));
    }
  }
  const BenchShape& shape = request.shape;
  const std::shared_ptr<HostData> data = make_host_data(shape);
  BenchGroup group{shape, {copy_of(data, data->input_bytes()), read_of(data)}};
  std::vector<std::shared_ptr<HostSubject>> subjects;
  Builder builder(request, *data);
  for (const std::string& text : request.quantizers) {
    if (text == element_baseline) continue;
    if (text != dense_baseline && !is_fitted(text) &&
        shape.bits < find_quantizer(QuantizerSpec::parse(text).name).min_bits) {
      skipped.push_back({fmt::format("{} at {} bits", text, shape.bits), "too few bits for this quantizer"});
      continue;
    }
    std::shared_ptr<const Quantizer> quantizer = builder.build(text);
    CodeBuffer codes(quantizer->layout(), shape.vectors);
    CodeBuffer values(quantizer->layout());
    subjects.push_back(std::make_shared<HostSubject>(
        HostSubject{text, std::move(quantizer), data, std::move(codes), std::move(values),
                    request.transforms.path.empty() || text == dense_baseline || !is_fitted(text)}));
  }
  for (const std::string& name : request.operations) {
    for (const auto& subject : subjects) group.operations.push_back(operation_of(name, subject));
    const bool wanted = std::find(request.quantizers.begin(), request.quantizers.end(), element_baseline) !=
                        request.quantizers.end();
    if (name == attend_operation && wanted) group.operations.push_back(attend_elements(data));
    if (name.starts_with("score") && wanted) group.operations.push_back(score_elements(name, data));
  }
  return group;
}

std::int64_t vectors_of_size(const std::string& size, std::int64_t dim, rotorquant::ElementType type,
                             int threads) {
  const std::int64_t vector_bytes = dim * element_bytes(type);
  if (size == "l2") return std::max<std::int64_t>(1, threads * l2_bytes / vector_bytes);
  if (size == "dram") return std::max<std::int64_t>(1, dram_bytes / vector_bytes);
  std::int64_t vectors = 0;
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), vectors);
  if (error != std::errc() || end != size.data() + size.size() || vectors < 1)
    throw UsageError(fmt::format("size '{}'; valid: l2, dram or a number of vectors", size));
  return vectors;
}

}  // namespace rotorquant::evaluation
