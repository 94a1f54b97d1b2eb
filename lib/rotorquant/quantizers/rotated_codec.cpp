#include "rotorquant/quantizers/rotated_codec.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/transpose.hpp"

namespace rotorquant {

void refuse_value(std::int64_t row, const float* x, std::int64_t dim) {
  for (std::int64_t c = 0; c < dim; ++c) {
    if (!std::isfinite(x[c])) {
      throw Error("encode: row " + std::to_string(row) + ", coordinate " + std::to_string(c) + " is " +
                  std::to_string(x[c]) + "; valid: finite values");
    }
  }
  throw Error("encode: the norm of row " + std::to_string(row) + " exceeds the range of float32");
}

RotatedCodec::RotatedCodec(std::shared_ptr<const Rotation> rotation) : rotation_(std::move(rotation)) {
  layout_.dim = rotation_->input_dim();
}

void RotatedCodec::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  parallel_chunks(context, x.rows, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    encode_block(x.row_range(begin, end - begin), begin, slice(codes, begin, end - begin));
  });
}

void RotatedCodec::decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const {
  const std::int64_t rotated_dim = rotation_->output_dim();
  parallel_chunks(context, codes.count, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    std::vector<float> values(static_cast<std::size_t>(count * rotated_dim));
    std::vector<float> scales(static_cast<std::size_t>(count));
    load_block(slice(codes, begin, count), {values.data(), count, rotated_dim}, scales.data());
    const HostView<float> block = x.row_range(begin, count);
    rotation_->apply_transpose({values.data(), count, rotated_dim}, block);
    for (std::int64_t r = 0; r < count; ++r) {
      for (std::int64_t c = 0; c < x.cols; ++c) block.row(r)[c] *= scales[static_cast<std::size_t>(r)];
    }
  });
}

void RotatedCodec::score(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
                         HostView<float> scores) const {
  const std::int64_t rotated_dim = rotation_->output_dim();
  std::vector<float> rotated(static_cast<std::size_t>(queries.rows * rotated_dim));
  rotation_->apply(queries, {rotated.data(), queries.rows, rotated_dim});
  const std::vector<float> transposed = transpose({rotated.data(), queries.rows, rotated_dim});
  parallel_chunks(context, codes.count, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    std::vector<float> values(static_cast<std::size_t>(count * rotated_dim));
    std::vector<float> scales(static_cast<std::size_t>(count));
    std::vector<float> products(static_cast<std::size_t>(count * queries.rows));
    load_block(slice(codes, begin, count), {values.data(), count, rotated_dim}, scales.data());
    dense_product({values.data(), count, rotated_dim}, {transposed.data(), rotated_dim, queries.rows},
                  {products.data(), count, queries.rows});
    for (std::int64_t i = 0; i < queries.rows; ++i) {
      for (std::int64_t t = 0; t < count; ++t) {
        scores.row(i)[begin + t] =
            products[static_cast<std::size_t>(t * queries.rows + i)] * scales[static_cast<std::size_t>(t)];
      }
    }
  });
}

void RotatedCodec::weighted_sum(const Context& context, HostView<const float> weights,
                                ConstCodes<Space::cpu> codes, HostView<float> sums) const {
  const std::int64_t rotated_dim = rotation_->output_dim();
  parallel_for(context, weights.rows, [&](std::int64_t i) {
    std::vector<float> rotated_sum(static_cast<std::size_t>(rotated_dim), 0.0F);
    std::vector<float> values(static_cast<std::size_t>(vectors_per_block * rotated_dim));
    std::vector<float> scales(static_cast<std::size_t>(vectors_per_block));
    for (std::int64_t begin = 0; begin < codes.count; begin += vectors_per_block) {
      const std::int64_t count = std::min(vectors_per_block, codes.count - begin);
      load_block(slice(codes, begin, count), {values.data(), count, rotated_dim}, scales.data());
      for (std::int64_t t = 0; t < count; ++t) {
        const float weight = weights.row(i)[begin + t] * scales[static_cast<std::size_t>(t)];
        const float* value = values.data() + t * rotated_dim;
        for (std::int64_t c = 0; c < rotated_dim; ++c)
          rotated_sum[static_cast<std::size_t>(c)] += weight * value[c];
      }
    }
    rotation_->apply_transpose({rotated_sum.data(), 1, rotated_dim}, sums.row_range(i, 1));
  });
}

}  // namespace rotorquant
