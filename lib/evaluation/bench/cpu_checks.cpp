#include "evaluation/bench/cpu_checks.hpp"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation {
namespace {

// Sums over all tokens in float32, of outputs that are small beside the values they average.
constexpr double attend_tolerance = 1e-3;

// Vectors drawn; longer inputs repeat them. No kernel's speed depends on the values.
constexpr std::int64_t distinct_vectors = 4096;
// A rival's matrix product may round otherwise for one row than for many, and a coordinate then fall to the
// other side of a boundary: about one in a million does.
constexpr std::int64_t rows_that_may_differ = 1;

[[noreturn]] void refuse(const HostSubject& subject, const char* operation, std::int64_t row,
                         const std::string& what) {
  throw Error(fmt::format("bench: {} by '{}' is wrong at vector {}: {}", operation, subject.text, row, what));
}

ConstCodes<Space::cpu> code_of(const HostSubject& subject, std::int64_t row) {
  ConstCodes<Space::cpu> codes = std::as_const(subject.codes).view();
  const CodeLayout& layout = subject.quantizer->layout();
  for (std::size_t a = 0; a < layout.arrays.size(); ++a)
    codes.arrays[a] += row * layout.arrays[a].bytes_per_vector();
  codes.count = 1;
  return codes;
}

double norm_of(const std::vector<float>& x) {
  double energy = 0.0;
  for (const float value : x) energy += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(energy);
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

}  // namespace

std::shared_ptr<HostData> make_host_data(const BenchShape& shape) {
  auto data = std::make_shared<HostData>();
  data->shape = shape;
  data->context = Context{shape.threads};
  data->input = BenchBuffer(data->context, data->input_bytes());
  data->output = BenchBuffer(data->context, data->input_bytes());
  const std::int64_t drawn = std::min(distinct_vectors, shape.vectors);
  RandomStream stream(host_data_seed, Purpose::synthetic);
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
  data->query.resize(static_cast<std::size_t>(attending_queries * shape.dim));
  for (std::size_t i = 0; i < data->query.size(); ++i) data->query[i] = values[i % values.size()];
  data->drawn = std::move(values);
  data->scores.resize(static_cast<std::size_t>(shape.vectors));
  data->weights.resize(static_cast<std::size_t>(attending_queries * shape.vectors));
  data->outputs.resize(static_cast<std::size_t>(attending_queries * shape.dim));
  return data;
}

std::vector<float> decoded(const HostSubject& subject, std::int64_t row) {
  std::vector<float> x(static_cast<std::size_t>(subject.data->shape.dim));
  subject.quantizer->decode({}, code_of(subject, row), {x.data(), 1, subject.data->shape.dim});
  return x;
}

std::vector<float> decoded_drawn(const HostSubject& subject) {
  const HostData& data = *subject.data;
  std::vector<float> x(static_cast<std::size_t>(data.distinct() * data.shape.dim));
  ConstCodes<Space::cpu> codes = std::as_const(subject.codes).view();
  codes.count = data.distinct();
  subject.quantizer->decode(data.context, codes, {x.data(), data.distinct(), data.shape.dim});
  return x;
}

void check_encode(HostSubject& subject) {
  subject.quantizer->encode_tensor(subject.data->context, subject.data->x(), subject.codes.view());
  const CodeLayout& layout = subject.quantizer->layout();
  CodeBuffer expected(layout, 1);
  std::int64_t different = 0;
  for_checked_host_rows(*subject.data, [&](std::int64_t r, const std::vector<float>& x) {
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

void check_decode(HostSubject& subject) {
  const HostData& data = *subject.data;
  subject.quantizer->decode_tensor(data.context, std::as_const(subject.codes).view(), data.y());
  std::vector<float> got(static_cast<std::size_t>(data.shape.dim));
  for_checked_host_rows(data, [&](std::int64_t r, const std::vector<float>& x) {
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

void check_score(const HostData& data, const std::vector<float>& x, std::int64_t row, const std::string& text,
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

void check_attend(const HostData& data, const std::vector<float>& rows, const std::string& text) {
  const std::int64_t dim = data.shape.dim, distinct = data.distinct();
  for (std::int64_t i = 0; i < attending_queries; ++i) {
    const float* query = data.query.data() + i * dim;
    std::vector<double> scores(static_cast<std::size_t>(distinct), 0.0);
    for (std::int64_t t = 0; t < distinct; ++t) {
      double& score = scores[static_cast<std::size_t>(t)];
      for (std::int64_t c = 0; c < dim; ++c)
        score += attend_scale(dim) * static_cast<double>(query[c]) *
                 static_cast<double>(rows[static_cast<std::size_t>(t * dim + c)]);
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double sum = 0.0;
    std::vector<double> output(static_cast<std::size_t>(dim), 0.0);
    for (std::int64_t t = 0; t < distinct; ++t) {
      const std::int64_t copies = data.shape.vectors / distinct + (t < data.shape.vectors % distinct ? 1 : 0);
      const double weight =
          static_cast<double>(copies) * std::exp(scores[static_cast<std::size_t>(t)] - largest);
      sum += weight;
      for (std::int64_t c = 0; c < dim; ++c)
        output[static_cast<std::size_t>(c)] +=
            weight * static_cast<double>(rows[static_cast<std::size_t>(t * dim + c)]);
    }
    double error = 0.0, energy = 0.0;
    for (std::int64_t c = 0; c < dim; ++c) {
      const double want = output[static_cast<std::size_t>(c)] / sum;
      error += std::pow(static_cast<double>(data.outputs[static_cast<std::size_t>(i * dim + c)]) - want, 2);
      energy += want * want;
    }
    if (!(error <= attend_tolerance * attend_tolerance * energy)) {
      throw Error(fmt::format("bench: attend by '{}' is wrong for query {}: {} off of {}; valid: within {}",
                              text, i, std::sqrt(error), std::sqrt(energy), attend_tolerance));
    }
  }
}

}  // namespace rotorquant::evaluation
