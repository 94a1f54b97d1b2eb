#include "rotorquant/quantizers/rotated_codec.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/weighted_blocks.hpp"

namespace rotorquant {
namespace {

// Kernels take up to this many coordinates of a query at a time.
constexpr std::int64_t query_padding = 64;

// R q [queries.rows, stride], with zeros from the rotated dimension to the stride.
std::vector<float> rotated_queries(const Rotation& rotation, HostView<const float> queries,
                                   std::int64_t stride) {
  const std::int64_t dim = rotation.output_dim();
  std::vector<float> rotated(static_cast<std::size_t>(queries.rows * dim));
  rotation.apply(queries, {rotated.data(), queries.rows, dim});
  std::vector<float> padded(static_cast<std::size_t>(queries.rows * stride));
  for (std::int64_t i = 0; i < queries.rows; ++i)
    std::copy_n(rotated.data() + i * dim, dim, padded.data() + i * stride);
  return padded;
}

}  // namespace

void refuse_value(std::int64_t row, const float* x, std::int64_t dim) {
  for (std::int64_t c = 0; c < dim; ++c) {
    if (!std::isfinite(x[c])) {
      throw Error("encode: row " + std::to_string(row) + ", coordinate " + std::to_string(c) + " is " +
                  std::to_string(x[c]) + "; valid: finite values");
    }
  }
  throw Error("encode: the norm of row " + std::to_string(row) + " exceeds the range of float32");
}

RotatedCodec::RotatedCodec(std::shared_ptr<const Rotation> rotation, Isa isa)
    : kernels_(scalar_kernels(isa)), rotation_(std::move(rotation)) {
  layout_.dim = rotation_->input_dim();
}

HostView<const float> as_floats(const ConstHostTensor& x, std::vector<float>& storage) {
  if (x.type == ElementType::float32) return {static_cast<const float*>(x.data), x.rows, x.cols};
  storage.resize(static_cast<std::size_t>(x.rows * x.cols));
  load_elements(x.type, x.data, x.rows * x.cols, storage.data());
  return {storage.data(), x.rows, x.cols};
}

void RotatedCodec::encode_tensor(const Context& context, const ConstHostTensor& x,
                                 Codes<Space::cpu> codes) const {
  const std::int64_t rows = rotation_->rows_at_once();
  parallel_chunks(context, x.rows, vectors_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; r += rows) {
      const std::int64_t count = std::min(rows, end - r);
      encode_block(x.row_range(r, count), r, slice(codes, r, count));
    }
  });
}

void RotatedCodec::decode_tensor(const Context& context, ConstCodes<Space::cpu> codes,
                                 const HostTensor& x) const {
  const std::int64_t rows = rotation_->rows_at_once();
  const bool stream = codes.count * x.cols * element_bytes(x.type) >= streamed_bytes;
  parallel_chunks(context, codes.count, vectors_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; r += rows) {
      const std::int64_t count = std::min(rows, end - r);
      decode_block(slice(codes, r, count), stream, x.row_range(r, count));
    }
    if (stream) finish_streams();
  });
}

void RotatedCodec::decode_block(ConstCodes<Space::cpu> codes, bool stream, const HostTensor& x) const {
  const std::int64_t rotated_dim = rotation_->output_dim();
  // Kept from block to block by each thread.
  static thread_local ScratchFloats value_scratch, scale_scratch;
  float* values = value_scratch.reserve(codes.count * rotated_dim);
  float* scales = scale_scratch.reserve(codes.count);
  load_block(codes, {values, codes.count, rotated_dim}, scales);
  rotation_->apply_transpose_scaled({values, codes.count, rotated_dim}, scales, stream, x);
}

void RotatedCodec::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  encode_tensor(context, {x.data, ElementType::float32, x.rows, x.cols}, codes);
}

void RotatedCodec::decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const {
  decode_tensor(context, codes, {x.data, ElementType::float32, x.rows, x.cols});
}

void RotatedCodec::score(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
                         HostView<float> scores) const {
  const std::int64_t dim = rotation_->output_dim();
  const std::int64_t stride = (dim + query_padding - 1) / query_padding * query_padding;
  const std::vector<float> rotated = rotated_queries(*rotation_, queries, stride);
  const ScoreQueries prepared{rotated.data(), queries.rows, dim, stride};
  parallel_chunks(context, codes.count, vectors_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    score_block(prepared, slice(codes, begin, end - begin), {scores.data + begin, scores.cols});
  });
}

void RotatedCodec::score_block(const ScoreQueries& queries, ConstCodes<Space::cpu> codes,
                               const ScoreRows& scores) const {
  static thread_local ScratchFloats value_scratch, scale_scratch;
  float* values = value_scratch.reserve(vectors_per_block * queries.dim);
  float* scales = scale_scratch.reserve(vectors_per_block);
  for (std::int64_t begin = 0; begin < codes.count; begin += vectors_per_block) {
    const std::int64_t count = std::min(vectors_per_block, codes.count - begin);
    load_block(slice(codes, begin, count), {values, count, queries.dim}, scales);
    kernels_.score(queries, values, scales, count, {scores.data + begin, scores.stride});
  }
}

void RotatedCodec::weighted_sum(const Context& context, HostView<const float> weights,
                                ConstCodes<Space::cpu> codes, HostView<float> sums) const {
  // Rotated back once, as a sum.
  const std::int64_t rotated_dim = rotation_->output_dim();
  std::vector<float> rotated_sums(static_cast<std::size_t>(weights.rows * rotated_dim));
  const HostView<float> rotated{rotated_sums.data(), weights.rows, rotated_dim};
  sum_weighted(context, weights, rotated,
               [&](std::int64_t begin, std::int64_t count, float* values, float* scales) {
                 load_block(slice(codes, begin, count), {values, count, rotated_dim}, scales);
               });
  rotation_->apply_transpose({rotated_sums.data(), weights.rows, rotated_dim}, sums);
}

}  // namespace rotorquant
