#include "evaluation/bench/gpu_operations.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "evaluation/bench/calibrated_gpu_keys.hpp"
#include "evaluation/bench/cublas.hpp"
#include "evaluation/bench/fitted_quantizer.hpp"
#include "evaluation/bench/gpu_checks.hpp"
#include "rotorquant/cache/kv_cache.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"
#include "rotorquant/device/device_memory.hpp"
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/device/packed_attention.hpp"
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/rotations/dense.hpp"

namespace rotorquant::evaluation {
namespace {

BenchOperation copy_of(const std::shared_ptr<GpuData>& data) {
  const std::int64_t bytes = data->input.bytes();
  const auto check = [data, bytes] {
    copy_on_gpu(data->input, data->output, bytes);
    std::vector<std::uint8_t> from(static_cast<std::size_t>(std::min<std::int64_t>(bytes, 1 << 20))),
        to(from.size());
    const auto end = static_cast<std::int64_t>(from.size());
    data->input.download(from.data(), bytes - end, end);
    data->output.download(to.data(), bytes - end, end);
    if (from != to) throw Error("bench: copy on the GPU is wrong");
  };
  const auto run = [data, bytes] { copy_on_gpu(data->input, data->output, bytes); };
  return {copy_operation, "", bytes, bytes, check, gpu_timer(data, run)};
}

BenchOperation read_of(const std::shared_ptr<GpuData>& data) {
  const std::int64_t bytes = data->input.bytes() / 16 * 16;
  const auto run = [data, bytes] { read_on_gpu(data->input, bytes, data->scores); };
  const auto check = [data, run, bytes] {
    run();
    std::uint64_t got = 0, want = 0;
    data->scores.download(&got, 0, sizeof got);
    std::vector<std::uint64_t> words(static_cast<std::size_t>(bytes / 8));
    data->input.download(words.data(), 0, bytes);
    for (const std::uint64_t word : words) want ^= word;
    if (got != want) throw Error("bench: read on the GPU is wrong");
  };
  return {read_operation, "", bytes, 0, check, gpu_timer(data, run)};
}

BenchOperation attend_half_of(const std::shared_ptr<GpuData>& data) {
  const std::int64_t rows = GpuData::query_rows(data->shape), dim = data->shape.dim;
  const auto run = [data, rows, dim] {
    attend_half(nullptr, data->workspace, data->attention(), {data->query(), rows, dim}, data->input.data(),
                data->output.data(), {data->score_values(), rows, dim});
  };
  // Keys and values are two copies of the input, so that each is read from memory.
  const auto check = [data, run] {
    copy_on_gpu(data->input, data->output, data->input.bytes());
    run();
    check_attention(*data, repeated_rows(*data, data->drawn), data->drawn, half_baseline);
  };
  return {attend_operation, half_baseline, 2 * data->input.bytes(),
          4 * rows * dim,   check,         gpu_timer(data, run)};
}

// A rotation in the shape's own type, y = R x.
BenchOperation rotate_of(const std::shared_ptr<GpuData>& data) {
  const std::int64_t dim = data->shape.dim;
  std::vector<float> matrix = DenseRotation::haar(dim, gpu_data_seed).program().numbers;
  std::vector<std::uint8_t> elements(matrix.size() *
                                     static_cast<std::size_t>(element_bytes(data->shape.type)));
  store_elements(data->shape.type, matrix.data(), dim * dim, elements.data());
  load_elements(data->shape.type, elements.data(), dim * dim, matrix.data());
  const auto device_matrix =
      std::make_shared<DeviceMemory>(data->gpu, static_cast<std::int64_t>(elements.size()));
  device_matrix->upload(elements.data(), 0, device_matrix->bytes());
  const auto cublas = std::make_shared<CublasRotation>();
  const auto run = [data, device_matrix, cublas, dim] {
    cublas->apply(device_matrix->data(), data->input.data(), data->output.data(), data->shape.type,
                  data->shape.vectors, dim);
  };
  const auto check = [data, run, matrix, dim] {
    run();
    const std::int64_t count = data->checked() * dim;
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count * element_bytes(data->shape.type)));
    std::vector<float> got(static_cast<std::size_t>(count)), want(static_cast<std::size_t>(dim));
    data->output.download(bytes.data(), 0, static_cast<std::int64_t>(bytes.size()));
    load_elements(data->shape.type, bytes.data(), count, got.data());
    const double tolerance = data->shape.type == rotorquant::ElementType::bfloat16 ? 0x1p-8 : 0x1p-11;
    for (std::int64_t r = 0; r < data->checked(); ++r) {
      const float* const x = data->drawn.data() + r * dim;
      for (std::int64_t i = 0; i < dim; ++i) {
        double sum = 0.0;
        for (std::int64_t j = 0; j < dim; ++j) {
          sum +=
              static_cast<double>(matrix[static_cast<std::size_t>(i * dim + j)]) * static_cast<double>(x[j]);
        }
        want[static_cast<std::size_t>(i)] = static_cast<float>(sum);
      }
      check_row(got.data() + r * dim, want.data(), dim, tolerance, {rotate_operation, dense_baseline, r});
    }
  };
  const std::int64_t bytes = data->input.bytes();
  return {rotate_operation, dense_baseline, bytes, bytes, check, gpu_timer(data, run)};
}

BenchOperation operation_of(const std::string& name, const std::shared_ptr<GpuSubject>& subject) {
  const GpuData& data = *subject->data;
  const std::int64_t bytes = data.input.bytes(), code_bytes = subject->code_bytes();
  if (name == "encode") {
    return {name,
            subject->text,
            bytes,
            code_bytes,
            [subject] { check_encode(*subject); },
            gpu_timer(subject->data, [subject] { subject->encode(); })};
  }
  if (name == "decode") {
    const auto run = [subject] { subject->device->decode(nullptr, subject->codes(), subject->data->y()); };
    const auto check = [subject] {
      subject->encode();
      check_decode(*subject);
    };
    return {name, subject->text, code_bytes, bytes, check, gpu_timer(subject->data, run)};
  }
  const std::int64_t queries = name == score_group_operation ? queries_a_head : 1;
  const auto run = [subject, queries] {
    GpuData& shared = *subject->data;
    subject->device->score(nullptr, shared.workspace, {shared.query(), queries, shared.shape.dim},
                           subject->codes(), {shared.score_values(), queries, shared.shape.vectors});
  };
  const auto check = [subject, run, queries] {
    subject->encode();
    run();
    subject->finish();
    check_score(*subject, queries);
  };
  return {name,       subject->text,
          code_bytes, 4 * queries * data.shape.vectors,
          check,      gpu_timer(subject->data, run)};
}

// Values in codes of their own, which are the subject's where the quantizer is one of values too.
BenchOperation attend_of(const std::shared_ptr<GpuSubject>& subject) {
  const BenchShape& shape = subject->data->shape;
  const QuantizerSpec value = value_spec(QuantizerSpec::parse(subject->text));
  const std::shared_ptr<const Quantizer> value_quantizer =
      make_quantizer(value, {shape.bits, gpu_data_seed, shape.dim});
  const std::shared_ptr<const PackedAttention> attention =
      make_packed_attention(subject->quantizer, value_quantizer, subject->data->gpu);
  const std::shared_ptr<GpuSubject> values = make_gpu_subject(subject->data, value.name, value_quantizer);
  const std::int64_t rows = GpuData::query_rows(shape), dim = shape.dim;
  const auto run = [subject, attention, values, rows, dim] {
    GpuData& data = *subject->data;
    attention->attend(nullptr, data.workspace, data.attention(), {data.query(), rows, dim}, subject->codes(),
                      values->codes(), {data.score_values(), rows, dim});
  };
  const auto check = [subject, values, run] {
    const GpuData& data = *subject->data;
    subject->encode();
    values->encode();
    run();
    subject->finish();
    values->finish();
    check_attention(data, repeated_rows(data, subject->decoded(data.distinct)),
                    values->decoded(data.distinct), subject->text);
  };
  return {attend_operation, subject->text, subject->code_bytes() + values->code_bytes(),
          4 * rows * dim,   check,         gpu_timer(subject->data, run)};
}

}  // namespace

const std::vector<std::string>& gpu_operation_names() {
  static const std::vector<std::string> names{
      "encode", "decode", "score", score_group_operation, attend_operation, rotate_operation};
  return names;
}

BenchGroup gpu_group(const GpuBenchRequest& request, std::vector<SkippedOperation>& skipped) {
  const BenchShape& shape = request.shape;
  for (const std::string& name : request.operations) {
    const std::vector<std::string>& known = gpu_operation_names();
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw UsageError(fmt::format("unknown operation '{}'{}; valid: {}", name, nearest_hint(name, known),
                                   fmt::join(known, ", ")));
    }
    if ((name == attend_operation || name == score_group_operation) && shape.vectors % attended_tokens != 0) {
      throw UsageError(fmt::format("{} over {} vectors; valid: a multiple of {}, the tokens of a head", name,
                                   shape.vectors, attended_tokens));
    }
  }
  const auto data = std::make_shared<GpuData>(shape, request.gpu);
  BenchGroup group{shape, {copy_of(data), read_of(data)}};
  std::vector<std::shared_ptr<GpuSubject>> subjects;
  std::vector<std::string> fitted;
  for (const std::string& text : request.quantizers) {
    if (text == half_baseline) continue;
    const std::string what = fmt::format("{} at {} bits", text, shape.bits);
    if (text == dense_baseline) {
      if (std::find(request.operations.begin(), request.operations.end(), rotate_operation) ==
          request.operations.end()) {
        skipped.push_back({what, "on a GPU it rotates and no more; valid: --ops rotate"});
      }
      continue;
    }
    if (text == element_baseline) {
      skipped.push_back({what, "a baseline of the CPU alone"});
      continue;
    }
    if (is_fitted(text)) {
      fitted.push_back(text);
      continue;
    }
    if (shape.bits < find_quantizer(QuantizerSpec::parse(text).name).min_bits) {
      skipped.push_back({what, "too few bits for this quantizer"});
      continue;
    }
    const std::shared_ptr<const Quantizer> quantizer =
        make_quantizer(QuantizerSpec::parse(text), {shape.bits, gpu_data_seed, shape.dim});
    if (const auto reason = quantizer->unsupported_on(Space::cuda)) {
      skipped.push_back({what, *reason});
      continue;
    }
    subjects.push_back(make_gpu_subject(data, text, quantizer));
  }
  const auto calibrated_keys = std::make_shared<CalibratedGpuKeys>(data, request.transforms);
  for (const std::string& name : request.operations) {
    if (name == rotate_operation) {
      if (std::find(request.quantizers.begin(), request.quantizers.end(), dense_baseline) ==
          request.quantizers.end()) {
        skipped.push_back({name, fmt::format("needs {} among the quantizers", dense_baseline)});
        continue;
      }
      try {
        group.operations.push_back(rotate_of(data));
      } catch (const Error& error) {
        skipped.push_back({fmt::format("{} by {}", name, dense_baseline), error.what()});
      }
      continue;
    }
    for (const auto& subject : subjects) {
      if (name != attend_operation) {
        group.operations.push_back(operation_of(name, subject));
        continue;
      }
      try {
        group.operations.push_back(attend_of(subject));
      } catch (const Error& error) {
        skipped.push_back(
            {fmt::format("{} by {} at {} bits", name, subject->text, shape.bits), error.what()});
      }
    }
    for (const std::string& text : fitted) {
      try {
        group.operations.push_back(
            name == score_group_operation || name == attend_operation
                ? calibrated_keys->operation(name, text)
                : operation_of(name, make_gpu_subject(data, text, calibrated_keys->codec(text))));
      } catch (const UsageError&) {
        throw;
      } catch (const Error& error) {
        skipped.push_back({fmt::format("{} by {} at {} bits", name, text, shape.bits), error.what()});
      }
    }
    const bool wanted = std::find(request.quantizers.begin(), request.quantizers.end(), half_baseline) !=
                        request.quantizers.end();
    const bool possible =
        shape.type == rotorquant::ElementType::float16 && (shape.dim == 64 || shape.dim == 128);
    if (name == attend_operation && wanted && possible) group.operations.push_back(attend_half_of(data));
    if (name == attend_operation && wanted && !possible) {
      skipped.push_back({half_baseline, "takes fp16 rows of 64 or 128 coordinates"});
    }
  }
  return group;
}

}  // namespace rotorquant::evaluation
