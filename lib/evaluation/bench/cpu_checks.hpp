#pragma once
// The data that a group of CPU operations works on, and whether what an operation left there is right: known
// before anything is timed.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "evaluation/bench/buffer.hpp"
#include "evaluation/bench/operation.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant::evaluation {

// Rows that a check compares, spread over the input.
inline constexpr std::int64_t checked_host_rows = 64;
inline constexpr std::uint64_t host_data_seed = 1;
// Queries of one token that read the same keys and values: a group of four heads.
inline constexpr std::int64_t attending_queries = 4;

// Sums of dim products in float32, in any order, err by less than this share of the norms of their factors.
inline constexpr double sum_tolerance = 1e-5;
// Scores by 8-bit integers: both factors are rounded to a 254th of their range.
inline constexpr double integer_tolerance = 2e-2;

// What the operations of a group share.
struct HostData {
  BenchShape shape;
  Context context;
  BenchBuffer input;           // [vectors, dim] of shape.type
  BenchBuffer output;          // the same, decoded into
  std::vector<float> drawn;    // [vectors or distinct_vectors, dim], before they were rounded to shape.type
  std::vector<float> query;    // [attending_queries, dim]; scores are those of the first
  std::vector<float> scores;   // [1, vectors]
  std::vector<float> weights;  // [attending_queries, vectors]
  std::vector<float> outputs;  // [attending_queries, dim]

  std::int64_t distinct() const { return static_cast<std::int64_t>(drawn.size()) / shape.dim; }
  std::int64_t input_bytes() const { return shape.vectors * shape.dim * element_bytes(shape.type); }
  ConstHostTensor x() const { return {input.data(), shape.type, shape.vectors, shape.dim}; }
  ConstHostTensor values() const { return {output.data(), shape.type, shape.vectors, shape.dim}; }
  HostTensor y() const { return {output.data(), shape.type, shape.vectors, shape.dim}; }
};

std::shared_ptr<HostData> make_host_data(const BenchShape& shape);

// Codes of the whole input, written by the operation under test.
struct HostSubject {
  std::string text;
  std::shared_ptr<const Quantizer> quantizer;
  std::shared_ptr<HostData> data;
  CodeBuffer codes;
  CodeBuffer values;       // the same again, as the values that an attending query reads; empty unless wanted
  bool suits_data = true;  // not so where it was fitted to other vectors
};

// Of scores, before the softmax.
inline double attend_scale(std::int64_t dim) {
  return 1.0 / std::sqrt(static_cast<double>(dim));
}

// The float32 values of the vector's code.
std::vector<float> decoded(const HostSubject& subject, std::int64_t row);
// Of all vectors that were drawn [distinct, dim].
std::vector<float> decoded_drawn(const HostSubject& subject);

// body(row, x [dim] in float32) for the rows that a check looks at.
template <typename Body>
void for_checked_host_rows(const HostData& data, const Body& body) {
  const std::int64_t step = std::max<std::int64_t>(1, data.shape.vectors / checked_host_rows);
  std::vector<float> x(static_cast<std::size_t>(data.shape.dim));
  for (std::int64_t r = step - 1; r < data.shape.vectors; r += step) {
    load_elements(data.shape.type, data.x().row(r), data.shape.dim, x.data());
    body(r, x);
  }
}

// Each throws an Error that names the operation, the quantizer and the first wrong vector; the first two run
// the operation themselves. Checked rows have the codes that the float32 path gives them alone.
void check_encode(HostSubject& subject);
// Checked rows decode to the values that the float32 path gives them alone, and these are nearer to x than 0
// is, unless the quantizer was fitted to vectors of another kind.
void check_decode(HostSubject& subject);
// The score at `row` against that of x in float64.
void check_score(const HostData& data, const std::vector<float>& x, std::int64_t row, const std::string& text,
                 double tolerance);
// The outputs against float64 attention over `rows` [distinct, dim], keys and values alike, which the tokens
// repeat.
void check_attend(const HostData& data, const std::vector<float>& rows, const std::string& text);

}  // namespace rotorquant::evaluation
