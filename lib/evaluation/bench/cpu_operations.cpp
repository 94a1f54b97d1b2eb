#include "evaluation/bench/cpu_operations.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "evaluation/bench/buffer.hpp"
#include "evaluation/bench/fitted_quantizer.hpp"
#include "evaluation/bench/host_kernels.hpp"
#include "evaluation/bench/tuned_dense.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::evaluation {
namespace {

// Vectors drawn; longer inputs repeat them. No kernel's speed depends on the values.
constexpr std::int64_t distinct_vectors = 4096;
// Fitted quantizers see this many of them as keys, and half as many others as queries.
constexpr std::int64_t fitted_keys = 1024;
// Rows that a check compares, spread over the input.
constexpr std::int64_t checked_rows = 64;
constexpr std::uint64_t data_seed = 1;

constexpr std::int64_t l2_bytes = 512 << 10;    // of input, for each thread
constexpr std::int64_t dram_bytes = 128 << 20;  // of input, in all

// A rival's matrix product may round otherwise for one row than for many, and a coordinate then fall to the
// other side of a boundary: about one in a million does.
constexpr std::int64_t rows_that_may_differ = 1;

// Sums of dim products in float32, in any order, err by less than this share of the norms of their factors.
constexpr double sum_tolerance = 1e-5;
// Scores by 8-bit integers: both factors are rounded to a 254th of their range.
constexpr double integer_tolerance = 2e-2;

// What the operations of a group share.
struct Data {
  BenchShape shape;
  Context context;
  BenchBuffer input;         // [vectors, dim] of shape.type
  BenchBuffer output;        // the same, decoded into
  std::vector<float> drawn;  // [vectors or distinct_vectors, dim], before they were rounded to shape.type
  std::vector<float> query;
  std::vector<float> scores;  // [1, vectors]

  std::int64_t input_bytes() const { return shape.vectors * shape.dim * element_bytes(shape.type); }
  ConstHostTensor x() const { return {input.data(), shape.type, shape.vectors, shape.dim}; }
  HostTensor y() const { return {output.data(), shape.type, shape.vectors, shape.dim}; }
};

std::shared_ptr<Data> make_data(const BenchShape& shape) {
  auto data = std::make_shared<Data>();
  data->shape = shape;
  data->context = Context{shape.threads};
  data->input = BenchBuffer(data->context, data->input_bytes());
  data->output = BenchBuffer(data->context, data->input_bytes());
  const std::int64_t drawn = std::min(distinct_vectors, shape.vectors);
  RandomStream stream(data_seed, Purpose::synthetic);
  std::vector<float> values(static_cast<std::size_t>(drawn * shape.dim));
  for (float& value : values) value = static_cast<float>(stream.normal());
  store_elements(shape.type, values.data(), drawn * shape.dim, data->input.data());
  const std::int64_t row_bytes = shape.dim * element_bytes(shape.type);
  parallel_for(data->context, shape.vectors, [&](std::int64_t r) {
    if (r >= drawn) {
      std::memcpy(data->input.data() + r * row_bytes, data->input.data() + r % drawn * row_bytes,
                  static_cast<std::size_t>(row_bytes));
    }
  });
  data->query.assign(values.begin(), values.begin() + shape.dim);
  data->drawn = std::move(values);
  data->scores.resize(static_cast<std::size_t>(shape.vectors));
  return data;
}

// Codes of the whole input, written by the operation under test.
struct Subject {
  std::string text;
  std::shared_ptr<const Quantizer> quantizer;
  std::shared_ptr<Data> data;
  CodeBuffer codes;
  bool suits_data = true;  // not so where it was fitted to other vectors
};

[[noreturn]] void refuse(const Subject& subject, const char* operation, std::int64_t row,
                         const std::string& what) {
  throw Error(fmt::format("bench: {} by '{}' is wrong at vector {}: {}", operation, subject.text, row, what));
}

// body(row, x [dim] in float32) for the rows that a check looks at.
template <typename Body>
void for_checked_rows(const Data& data, const Body& body) {
  const std::int64_t step = std::max<std::int64_t>(1, data.shape.vectors / checked_rows);
  std::vector<float> x(static_cast<std::size_t>(data.shape.dim));
  for (std::int64_t r = step - 1; r < data.shape.vectors; r += step) {
    load_elements(data.shape.type, data.x().row(r), data.shape.dim, x.data());
    body(r, x);
  }
}

ConstCodes<Space::cpu> code_of(const Subject& subject, std::int64_t row) {
  ConstCodes<Space::cpu> codes = std::as_const(subject.codes).view();
  const CodeLayout& layout = subject.quantizer->layout();
  for (std::size_t a = 0; a < layout.arrays.size(); ++a)
    codes.arrays[a] += row * layout.arrays[a].bytes_per_vector();
  codes.count = 1;
  return codes;
}

std::vector<float> decoded(const Subject& subject, std::int64_t row) {
  std::vector<float> x(static_cast<std::size_t>(subject.data->shape.dim));
  subject.quantizer->decode({}, code_of(subject, row), {x.data(), 1, subject.data->shape.dim});
  return x;
}

double norm_of(const std::vector<float>& x) {
  double energy = 0.0;
  for (const float value : x) energy += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(energy);
}

// Checked rows have the codes that the float32 path gives them alone.
void check_encode(Subject& subject) {
  subject.quantizer->encode_tensor(subject.data->context, subject.data->x(), subject.codes.view());
  const CodeLayout& layout = subject.quantizer->layout();
  CodeBuffer expected(layout, 1);
  std::int64_t different = 0;
  for_checked_rows(*subject.data, [&](std::int64_t r, const std::vector<float>& x) {
    subject.quantizer->encode({}, {x.data(), 1, subject.data->shape.dim}, expected.view());
    const ConstCodes<Space::cpu> got = code_of(subject, r);
    const ConstCodes<Space::cpu> want = std::as_const(expected).view();
    for (std::size_t a = 0; a < layout.arrays.size(); ++a) {
      if (std::memcmp(got.arrays[a], want.arrays[a],
                      static_cast<std::size_t>(layout.arrays[a].bytes_per_vector())) == 0)
        continue;
      if (++different > rows_that_may_differ)
        refuse(subject, "encode", r, fmt::format("its {} differ", layout.arrays[a].name));
    }
  });
}

// The distance between neighbouring numbers of a type, relative to them.
double spacing(rotorquant::ElementType type) {
  switch (type) {
    case rotorquant::ElementType::float16:
      return 0x1p-10;
    case rotorquant::ElementType::bfloat16:
      return 0x1p-7;
    case rotorquant::ElementType::float32:
      return 0x1p-23;
  }
  return 0.0;
}

// Checked rows decode to the values that the float32 path gives them alone, and these are nearer to x than 0
// is, unless the quantizer was fitted to vectors of another kind.
void check_decode(Subject& subject) {
  const Data& data = *subject.data;
  subject.quantizer->decode_tensor(data.context, std::as_const(subject.codes).view(), data.y());
  std::vector<float> got(static_cast<std::size_t>(data.shape.dim));
  for_checked_rows(data, [&](std::int64_t r, const std::vector<float>& x) {
    const std::vector<float> want = decoded(subject, r);
    load_elements(data.shape.type, data.y().row(r), data.shape.dim, got.data());
    const double tolerance = sum_tolerance * norm_of(x);
    double error = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto value = static_cast<double>(want[i]);
      if (std::abs(static_cast<double>(got[i]) - value) >
          spacing(data.shape.type) * std::abs(value) + tolerance)
        refuse(subject, "decode", r, fmt::format("{} at coordinate {}; valid: {}", got[i], i, want[i]));
      error += std::pow(static_cast<double>(x[i]) - value, 2);
    }
    if (subject.suits_data && !(error < std::pow(norm_of(x), 2)))
      refuse(subject, "decode", r, "farther from the input than zero");
  });
}

void check_score(const Data& data, const std::vector<float>& x, std::int64_t row, const std::string& text,
                 double tolerance) {
  double expected = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i)
    expected += static_cast<double>(x[i]) * static_cast<double>(data.query[i]);
  const double got = data.scores[static_cast<std::size_t>(row)];
  if (std::abs(got - expected) > tolerance * norm_of(x) * norm_of(data.query)) {
    throw Error(
        fmt::format("bench: score by '{}' is wrong at vector {}: {}; valid: {}", text, row, got, expected));
  }
}

BenchOperation copy_of(const std::shared_ptr<Data>& data, std::int64_t bytes) {
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

BenchOperation read_of(const std::shared_ptr<Data>& data) {
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

BenchOperation score_elements(const std::string& name, const std::shared_ptr<Data>& data) {
  const auto run = [data] { score_rows(data->context, data->query.data(), data->x(), data->scores.data()); };
  const auto check = [data, run] {
    run();
    for_checked_rows(*data, [&](std::int64_t r, const std::vector<float>& x) {
      check_score(*data, x, r, element_baseline, sum_tolerance);
    });
  };
  return {name, element_baseline, data->input_bytes(), 4 * data->shape.vectors, check, host_timer(run)};
}

BenchOperation operation_of(const std::string& name, const std::shared_ptr<Subject>& subject) {
  const Data& data = *subject->data;
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
    Data& shared = *subject->data;
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
    for_checked_rows(*subject->data, [&](std::int64_t r, const std::vector<float>&) {
      check_score(*subject->data, decoded(*subject, r), r, subject->text, tolerance);
    });
  };
  return {name, subject->text, code_bytes, 4 * data.shape.vectors, check, host_timer(run)};
}

// Quantizers by their texts; fits what has to be fitted once.
class Builder {
 public:
  Builder(const CpuBenchRequest& request, const Data& data) : request_(request), data_(data) {}

  std::shared_ptr<const Quantizer> build(const std::string& text);

 private:
  const CpuBenchRequest& request_;
  const Data& data_;
  std::shared_ptr<const TransformSet> transforms_;
};

std::shared_ptr<const Quantizer> Builder::build(const std::string& text) {
  const BenchShape& shape = request_.shape;
  if (text == dense_baseline) {
    return std::make_shared<ScalarCodec>(std::make_shared<TunedDenseRotation>(shape.dim, data_seed),
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
  return make_quantizer(QuantizerSpec::parse(text), {shape.bits, data_seed, shape.dim});
}

}  // namespace

const std::vector<std::string>& cpu_operation_names() {
  static const std::vector<std::string> names{"encode", "decode", "score", "score-int8"};
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
  const std::shared_ptr<Data> data = make_data(shape);
  BenchGroup group{shape, {copy_of(data, data->input_bytes()), read_of(data)}};
  std::vector<std::shared_ptr<Subject>> subjects;
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
    subjects.push_back(std::make_shared<Subject>(
        Subject{text, std::move(quantizer), data, std::move(codes),
                request.transforms.empty() || text == dense_baseline || !is_fitted(text)}));
  }
  for (const std::string& name : request.operations) {
    for (const auto& subject : subjects) group.operations.push_back(operation_of(name, subject));
    const bool wanted = std::find(request.quantizers.begin(), request.quantizers.end(), element_baseline) !=
                        request.quantizers.end();
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
